"""What a data path on top of the pump leaves to the pump as it is."""

from tapbond.datapath import DataPath


class Overlay:
    """Half a DataPath: what it does not do itself, the one below does.

    Args:
        pump: the one below.
    """

    def __init__(self, pump: DataPath) -> None:
        self._pump = pump

    def send_direct(self, port: int, direct: bool) -> None:
        """Send past the qdisc, or through it: what the pump sends."""
        self._pump.send_direct(port, direct)

    def announce(self, port: int) -> None:
        """See DataPath."""
        self._pump.announce(port)

    def announce_again(self) -> None:
        """See DataPath."""
        self._pump.announce_again()

    def send(self, port: int, frame: bytes) -> None:
        """Send a frame on a port."""
        self._pump.send(port, frame)

    def ready(self, ifindex: int) -> bool | None:
        """Ask the device itself."""
        return self._pump.ready(ifindex)
