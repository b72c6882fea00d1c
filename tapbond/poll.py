"""Poll the carrier, for links whose events come late: linkwatch may hold one back for a second."""

import asyncio
from collections.abc import Callable, Collection

from tapbond.datapath import DataPath
from tapbond.links import Links
from tapbond.model import Detector
from tapbond.slave import Slave

POLL_S = 0.010


class CarrierPoll:
    """Asks each slave's device for its carrier, every ``interval_s``.

    Args:
        slaves: a live collection.
        links: is told what netlink has not told yet.
        datapath: asks the device (ETHTOOL_GLINK).
        clock: CLOCK_MONOTONIC in ns.
        interval_s: 0: never.
    """

    def __init__(
        self,
        slaves: Collection[Slave],
        links: Links,
        datapath: DataPath,
        clock: Callable[[], int],
        interval_s: float = POLL_S,
    ) -> None:
        self._slaves = slaves
        self._links = links
        self._datapath = datapath
        self._clock = clock
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        if self._interval_s > 0:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._poll)

    def stop(self) -> None:
        """End; again is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll(self) -> None:
        self.start()
        for slave in tuple(self._slaves):
            ready = self._datapath.ready(slave.link.ifindex)
            if ready is None or not slave.link.up or ready == slave.link.carrier:
                continue
            # What netlink has queued is older than this answer: take it in first.
            self._links.read_pending()
            self._links.correct(slave.link, ready, self._clock(), Detector.POLL)
