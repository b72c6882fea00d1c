"""The steps that are done on the guest: the link of its standby, its VF, and where it runs."""

import asyncio
from dataclasses import dataclass

from tapbond.migration.errors import StepError
from tapbond.migration.facts import Place
from tapbond.migration.hypervisor import Report
from tapbond.migration.step import Site


@dataclass(frozen=True)
class SetLink:
    """The link state that the guest sees on its standby."""

    standby: str
    up: bool
    was_up: bool
    key: str = "standby-link"
    final: bool = False

    @property
    def text(self) -> str:
        """See Step."""
        return f"set the link of {self.standby} {_updown(self.up)}"

    @property
    def undo_text(self) -> str:
        """See Step."""
        return f"set the link of {self.standby} {_updown(self.was_up)}"

    async def do(self, site: Site, _report: Report) -> None:
        """See Step."""
        await site.hypervisor.set_link(self.standby, self.up)

    async def verify(self, site: Site) -> None:
        """See Step."""
        if await site.hypervisor.link_is(self.standby) not in (None, self.up):
            raise StepError(f"{self.standby}: its link is not {_updown(self.up)} though it was set")

    async def undo(self, site: Site) -> None:
        """See Step."""
        await site.hypervisor.set_link(self.standby, self.was_up)


def _updown(up: bool) -> str:
    return "up" if up else "down"


@dataclass(frozen=True)
class Unplug:
    """The VF leaves the guest."""

    primary: str
    device: str
    timeout_s: float
    key: str = "unplug"
    final: bool = False

    @property
    def text(self) -> str:
        """See Step."""
        return f"unplug {self.primary} (the guest has {self.timeout_s:g} s to let go)"

    @property
    def undo_text(self) -> str:
        """See Step."""
        return f"plug {self.primary} in"

    async def do(self, site: Site, _report: Report) -> None:
        """See Step."""
        if await site.hypervisor.is_plugged(self.primary):
            await site.hypervisor.unplug(self.primary, self.device, self.timeout_s)

    async def verify(self, site: Site) -> None:
        """See Step."""
        if await site.hypervisor.is_plugged(self.primary):
            raise StepError(f"{self.primary}: still plugged in though the guest let go of it")

    async def undo(self, site: Site) -> None:
        """See Step. A guest that did not answer in time may still answer."""
        await site.hypervisor.settle(self.primary)
        await _plug(site, self.primary, self.device)


@dataclass(frozen=True)
class Plug:
    """The VF comes into the guest."""

    primary: str
    device: str
    timeout_s: float
    key: str = "plug"
    final: bool = False

    @property
    def text(self) -> str:
        """See Step."""
        return f"plug {self.primary} in"

    @property
    def undo_text(self) -> str:
        """See Step."""
        return f"unplug {self.primary}"

    async def do(self, site: Site, _report: Report) -> None:
        """See Step."""
        await _plug(site, self.primary, self.device)

    async def verify(self, site: Site) -> None:
        """See Step."""
        if not await site.hypervisor.is_plugged(self.primary):
            raise StepError(f"{self.primary}: not plugged in though it was accepted")

    async def undo(self, site: Site) -> None:
        """See Step."""
        if await site.hypervisor.is_plugged(self.primary):
            await site.hypervisor.unplug(self.primary, self.device, self.timeout_s)


async def _plug(site: Site, primary: str, device: str) -> None:
    if not await site.hypervisor.is_plugged(primary):
        await site.hypervisor.plug(primary, device)


@dataclass(frozen=True)
class Move:
    """The guest itself."""

    domain: str
    to: str
    timeout_s: float
    key: str = "move"
    final: bool = True

    @property
    def text(self) -> str:
        """See Step."""
        return f"migrate {self.domain} to {self.to}"

    @property
    def undo_text(self) -> str:
        """See Step."""
        return f"cancel it: {self.domain} goes on here"

    async def do(self, site: Site, report: Report) -> None:
        """See Step."""
        if await site.hypervisor.place(self.to) is not Place.THERE:
            await site.hypervisor.migrate(self.to, self.timeout_s, report)

    async def verify(self, site: Site) -> None:
        """See Step."""
        place = await site.hypervisor.place(self.to)
        if place is not Place.THERE:
            raise StepError(f"{self.domain}: the migration ended, but the guest is {_PLACES[place]}")

    async def undo(self, site: Site) -> None:
        """See Step.

        Raises:
            NoWayBackError: the guest runs there.
            UnclearError: nobody can tell where it is.
        """
        await asyncio.shield(site.hypervisor.stay(self.to))


_PLACES = {
    Place.HERE: "here still",
    Place.MOVING: "on its way still",
    Place.UNCLEAR: "paused here, and the destination does not say that it runs there",
}
