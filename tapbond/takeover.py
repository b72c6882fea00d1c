"""``--adopt`` in the life of a failover: what is held before the standby is a slave, and given back over it."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from tapbond.adoption import Adoption
from tapbond.links import Links
from tapbond.membership import Membership
from tapbond.model import Role
from tapbond.selector import Selector
from tapbond.settings import Settings


class Takeover:
    """Adopts what the standby has, if the settings say so.

    Args:
        settings: the failover's.
        adoption: does it.
        links: where the standby and the TAP are.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, settings: Settings, adoption: Adoption, links: Links, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._adoption = adoption
        self._links = links
        self._clock = clock

    async def hold(self, unwind: AsyncExitStack) -> int:
        """Let the TAP have the standby's addresses too; return the standby's ifindex, 0: nothing to adopt."""
        if not self._settings.adopt:
            return 0
        unwind.push_async_callback(self._adoption.finish)
        await self._links.refresh()
        standby = self._links.by_name(self._settings.standby or "")
        tap = self._links.by_name(self._settings.name)
        return standby.ifindex if await self._adoption.hold(standby, tap) else 0

    async def give_back(self, selector: Selector, members: Membership) -> None:
        """Give back what was adopted, over the standby: the switch learns first where the MAC will be."""
        standby = next((slave for slave in selector.slaves if slave.role is Role.STANDBY), None)
        if self._settings.adopt and standby is not None and not standby.why_not_ready(self._clock()):
            selector.request(standby)
            for other in [slave for slave in selector.slaves if slave is not standby]:
                await members.remove(other, "failover destroyed")
        await self._adoption.give_back(None if standby is None else standby.link)
