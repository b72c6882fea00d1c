"""No isolation: for slaves whose traffic something else keeps from the IP stack."""

import structlog

from tapbond.model import Link
from tapbond.refuge import Refuge
from tapbond.rtnetlink import Rtnetlink

log = structlog.get_logger()


class NoIsolation:
    """Leaves the slaves to their IP stack, and says what that means."""

    kind = "none"
    refuge: Refuge | None = None

    def __init__(self, failover: str, _rtnetlink: Rtnetlink) -> None:
        self._failover = failover

    async def open(self) -> None:
        """Warn."""
        log.warning("no isolation: slaves answer ARP and ping a second time", failover=self._failover)

    async def add(self, link: Link) -> None:
        """Do nothing."""

    async def remove(self, link: Link) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""
