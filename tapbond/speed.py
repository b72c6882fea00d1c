"""Speed and duplex: those of each slave are known, those of the active one show on the failover.

net_failover and bonding tell the speed of the slave in use too (net_failover_ethtool_get_link_ksettings()).
"""

from collections.abc import Awaitable, Callable, Collection

from tapbond.ethtool import UNKNOWN, LinkSpeed
from tapbond.slave import Slave


class SpeedMirror:
    """Reads what slaves run at when their links change, and has the TAP show what the active one runs at.

    Args:
        slaves: a live collection.
        active: returns who sends.
        read: returns what a link (an ifindex) runs at.
        show: has the TAP tell that it runs at this.
        changed: is called when the speed or duplex of a slave is another.
    """

    def __init__(
        self,
        slaves: Collection[Slave],
        active: Callable[[], Slave | None],
        read: Callable[[int], Awaitable[LinkSpeed]],
        show: Callable[[LinkSpeed], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._slaves = slaves
        self._active = active
        self._read = read
        self._show = show
        self._changed = changed
        self._known: dict[int, LinkSpeed] = {}
        self._doubtful: set[int] = set()
        self._shown: LinkSpeed | None = None

    def doubt(self, ifindex: int) -> None:
        """Read a slave's speed again in the next look."""
        self._doubtful.add(ifindex)

    def show_again(self) -> None:
        """Show the active slave's speed in the next look, though nothing has changed: the TAP is elsewhere."""
        self._shown = None

    async def read(self, slave: Slave) -> bool:
        """Read a slave's speed now; return whether it is another than before."""
        ifindex = slave.link.ifindex
        self._doubtful.discard(ifindex)
        self._known[ifindex] = speed = await self._read(ifindex)
        before = (slave.speed, slave.full_duplex)
        slave.speed, slave.full_duplex = speed.speed, speed.full_duplex
        return before != (slave.speed, slave.full_duplex)

    async def look(self) -> None:
        """Read what is doubtful, then show what the active slave runs at."""
        doubtful = [slave for slave in self._slaves if slave.link.ifindex in self._doubtful]
        self._doubtful.clear()
        others = [await self.read(slave) for slave in doubtful]
        if any(others):
            self._changed()
        for gone in self._known.keys() - {slave.link.ifindex for slave in self._slaves}:
            del self._known[gone]
        active = self._active()
        speed = UNKNOWN if active is None else self._known.get(active.link.ifindex, UNKNOWN)
        if speed != self._shown:
            self._shown = speed
            await self._show(speed)
