"""What each port and all ports ever were carried by the kernel, whatever becomes of its filters."""

from collections.abc import Callable

from tapbond.model import Counters


class Ledger:
    """Counters of the kernel's filters, which begin at 0 whenever filters are made; the sums never run backwards.

    Args:
        read: returns what the filters of a port have counted, None: it has none.
    """

    def __init__(self, read: Callable[[int], Counters | None]) -> None:
        self._read = read
        self._ports: dict[int, Counters] = {}
        """What earlier filters of each port had counted."""
        self._last: dict[int, Counters] = {}
        """What the filters there are now have counted, when they were read last."""
        self._gone = Counters()

    def open(self, port: int) -> None:
        """Begin with a port, at 0."""
        self._ports[port] = Counters()

    def now(self, port: int) -> Counters:
        """Return what a port has carried; filters that cannot be read have not grown."""
        counted = self._read(port)
        if counted is not None:
            self._last[port] = counted
        return self._ports[port] + self._last.get(port, Counters())

    def last(self, port: int) -> Counters:
        """Return what it had carried when that was last asked, without asking the kernel."""
        return self._ports[port] + self._last.get(port, Counters())

    def fold(self, port: int) -> None:
        """Read the filters of a port for the last time: they are about to be removed."""
        self._ports[port] = self.now(port)
        self._last.pop(port, None)

    def close(self, port: int) -> None:
        """End a port; what it has carried stays in the total."""
        self.fold(port)
        self._gone += self._ports.pop(port)

    def total(self) -> Counters:
        """Return what all ports ever carried."""
        return sum((self.now(port) for port in self._ports), self._gone)
