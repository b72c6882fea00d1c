"""Who else speaks through the TAP and is announced with it; the pump cannot learn it from what it does not see."""

from tapbond.announce import rarp
from tapbond.datapath import DataPath


class Stations:
    """The announcements of a failover whose frames the kernel carries.

    Args:
        pump: sends them.
    """

    def __init__(self, pump: DataPath) -> None:
        self._pump = pump
        self._stations: frozenset[bytes] = frozenset()
        self._own: tuple[str, list[bytes]] | None = None

    def set(self, stations: frozenset[bytes]) -> None:
        """Announce these MACs too: a macvlan's, in a container."""
        if stations != self._stations:
            self._stations = stations
            self._tell()

    def set_own(self, mac: str, frames: list[bytes]) -> None:
        """Announce the failover itself; see DataPath."""
        self._own = mac, frames
        self._tell()

    def _tell(self) -> None:
        if self._own is not None:
            mac, frames = self._own
            more = [rarp(station) for station in sorted(self._stations)]
            self._pump.set_announcements(mac, frames + [frame for frame in more if frame not in frames])
