"""What the drivers of slaves count, folded into one set that never runs backwards; pure.

As net_failover_fold_stats() of drivers/net/net_failover.c has it: of each field of each slave only what was added
since the last look counts. A driver that starts again from 0 when its link goes down and up loses nothing that
was folded before. net_failover itself clears its sums in two places; this does not.
"""

from collections.abc import Collection
from operator import attrgetter

from tapbond.model import LINK_COUNTER_FIELDS, LinkCounters

WORD = 1 << 32

_values = attrgetter(*LINK_COUNTER_FIELDS)


def growth(old: int, new: int) -> int:
    """Return by how much a counter has grown; one that was reset has not.

    While both fit in 32 bits the counter may have no more, and a step of less than half its range is a wrap.
    A counter of 64 bits that grows by more than 2 GiB from one look to the next before it has passed 4 GiB
    is taken for one that was reset: the kernel's rule too.
    """
    difference = new - old
    if (old | new) < WORD:
        difference = (difference + WORD // 2) % WORD - WORD // 2
    return max(0, difference)


class Fold:
    """The sum over all slaves that ever were, each while it was one."""

    def __init__(self) -> None:
        self.total = LinkCounters()
        self._last: dict[int, LinkCounters] = {}

    @property
    def known(self) -> Collection[int]:
        """The slaves that are counted, by ifindex."""
        return self._last.keys()

    def begin(self, slave: int, counters: LinkCounters) -> None:
        """Count a slave from here on; what its driver had counted before is not ours."""
        self._last[slave] = counters

    def update(self, slave: int, counters: LinkCounters) -> None:
        """Add what a slave has counted since the last look; one that is not counted adds nothing."""
        old = self._last.get(slave)
        if old is None:
            return
        added = map(growth, _values(old), _values(counters))
        sums = map(sum, zip(_values(self.total), added, strict=True))
        self.total = LinkCounters(**dict(zip(LINK_COUNTER_FIELDS, sums, strict=True)))
        self._last[slave] = counters

    def end(self, slave: int, counters: LinkCounters | None = None) -> None:
        """Count a slave no more; ``counters`` are its last, None: nobody knows them."""
        if counters is not None:
            self.update(slave, counters)
        self._last.pop(slave, None)
