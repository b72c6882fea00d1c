"""Keep the folded statistics of the slaves up to date: read once a second, when asked for, and at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from tapbond.model import LinkCounters
from tapbond.slave import Slave
from tapbond.statistics import Fold


class Tally:
    """What the drivers of the slaves count.

    Args:
        slaves: a live collection.
        read: returns what the driver of a link (an ifindex) has counted, None: it has gone.
    """

    def __init__(self, slaves: Collection[Slave], read: Callable[[int], Awaitable[LinkCounters | None]]) -> None:
        self._slaves = slaves
        self._read = read
        self._fold = Fold()
        self._joining: set[int] = set()
        self._one_at_a_time = asyncio.Lock()

    @property
    def total(self) -> LinkCounters:
        """The sum as of the last look."""
        return self._fold.total

    async def begin(self, ifindex: int) -> None:
        """Count a link that is about to become a slave from here on."""
        async with self._one_at_a_time:
            counters = await self._read(ifindex)
            if counters is not None:
                self._fold.begin(ifindex, counters)
                self._joining.add(ifindex)

    def end(self, ifindex: int, counters: LinkCounters | None) -> None:
        """Count a link no more, whose last counters rtnetlink has told; None: nobody knows them."""
        self._joining.discard(ifindex)
        self._fold.end(ifindex, counters)

    async def look(self) -> None:
        """Read; those that are slaves no more are read for the last time."""
        async with self._one_at_a_time:
            for ifindex in tuple(self._fold.known):
                counters = await self._read(ifindex)
                slaves = {slave.link.ifindex for slave in self._slaves}
                self._joining -= slaves
                if counters is None or ifindex not in slaves | self._joining:
                    self.end(ifindex, counters)
                else:
                    self._fold.update(ifindex, counters)
