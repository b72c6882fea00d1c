"""Change a failover that runs to other settings, without losing a frame.

Everything is checked before anything is changed. Slaves come and go as by hand: make before break.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import structlog

from tapbond.errors import TapbondError
from tapbond.macpolicy import POLICIES
from tapbond.model import Link, MacPolicyName, Role
from tapbond.named import NamedLinks
from tapbond.probe.prober import targets_of
from tapbond.registry import Registry
from tapbond.settings import Settings
from tapbond.slave import Slave

if TYPE_CHECKING:
    from tapbond.assembly import Assembly

log = structlog.get_logger()

ADJUSTABLE = frozenset(
    {
        *("primary", "backups", "sticky", "reselect", "drain_ns", "updelay_ns", "downdelay_ns", "hold_down_ns"),
        *("poll_s", "announce_count", "announce_interval_ns", "probing"),
    }
)
"""Fields of Settings that can be changed while a failover runs. The others decide what the TAP is, where slaves
live, or how the pump was started."""


class Adjustment:
    """A change of settings.

    Args:
        parts: of the failover, which runs.
        before: its settings.
        after: what they are to be.
    """

    def __init__(self, parts: "Assembly", before: Settings, after: Settings) -> None:
        self._parts = parts
        self._before = before
        self._after = after
        self._named = NamedLinks(after, parts.places.slaves)

    def check(self) -> None:
        """Find out whether it can be done.

        Raises:
            TapbondError: it cannot; the text says why.
        """
        name = self._before.name
        for field in msgspec.structs.fields(Settings):
            old, new = (getattr(settings, field.name) for settings in (self._before, self._after))
            if field.name not in ADJUSTABLE and old != new:
                raise TapbondError(f"{name}: {field.name} cannot be changed while it runs (restart it)")
        targets_of(self._after.probing)
        registry = self._fresh_registry()
        for role, link in self._strangers():
            if self._parts.members.slave_of(link) is None:  # others were checked when they came
                registry.check(link, role, self._parts.places.slaves.links.by_index)

    async def make(self) -> list[str]:
        """Do it; return, in a line each, which slaves could not be taken."""
        self._parts.settings = self._after
        self._tune()
        self._rename()
        await self._dismiss()
        refused = await self._welcome()
        self._rank()
        return refused

    def _tune(self) -> None:
        """Change what is a number."""
        parts, before, after = self._parts, self._before, self._after
        silent = after.announce_count == 0 or POLICIES[after.mac_policy].follows
        parts.pump.tune(after.drain_ns, tolerant=after.downdelay_ns > 0, silent=silent)
        parts.announcer.change(after.announce_count, after.announce_interval_ns)
        parts.members.change(after)
        if after.poll_s != before.poll_s:
            parts.poll.change(after.poll_s)
        if after.probing != before.probing:
            parts.prober.change(after.probing)
        if after.reselect != before.reselect:
            parts.selector.reselect(after.reselect)

    def _rename(self) -> None:
        """Change who is meant by whom, for the links that are there and those that come later."""
        registry, after = self._parts.registry, self._after
        registry.named[Role.PRIMARY] = after.primary
        registry.backups = {backup.link: backup.prio for backup in after.backups}

    async def _dismiss(self) -> None:
        """Give back the slaves that are none any more, or are to be something else."""
        members, links = self._parts.members, self._parts.places.slaves.links
        for slave in self._parts.selector.slaves[:]:
            if slave in self._parts.selector.slaves and self._role(slave) is not slave.role:
                name = slave.name
                await members.remove(slave, "configuration changed")
                for link in links.by_index.values():
                    if link.name == name:
                        members.welcome(link.ifindex)

    async def _welcome(self) -> list[str]:
        """Take in the slaves that are new, then whatever else has the failover's MAC."""
        refused = []
        for role, link in self._strangers():
            if self._parts.members.slave_of(link) is not None:
                continue  # netlink was faster
            try:
                await self._parts.members.register(link.ifindex, role)
            except TapbondError as error:
                log.warning("link refused", failover=self._after.name, link=link.name, reason=str(error))
                refused.append(str(error))
        self._parts.arrivals.look_around(self._parts.places.slaves.links)
        return refused

    def _rank(self) -> None:
        """Give the slaves their places; what was ranked by hand and is not mentioned stays."""
        selector, before, after = self._parts.selector, self._before, self._after
        old, new = ({each.link: each.prio for each in settings.backups} for settings in (before, after))
        for slave in selector.slaves:
            name, sticky = slave.name, None
            if name in before.sticky ^ after.sticky:
                sticky = name in after.sticky
            prio = new[name] if name in old and name in new and old[name] != new[name] else None
            if sticky is not None or prio is not None:
                selector.rank(slave, prio=prio, sticky=sticky)

    def _role(self, slave: Slave) -> Role | None:
        """Return what a slave is to be: what it would be had the failover been started so; None: no slave."""
        before, after, name = self._before, self._after, slave.name
        if (role := _named_role(after, name)) is not None:
            return role
        by_mac = after.mac_policy is MacPolicyName.SAME and self._parts.registry.has_mac(slave.link)
        if _named_role(before, name) is not None:
            return Role.PRIMARY if by_mac and slave.role is Role.PRIMARY and after.primary is None else None
        in_the_way = slave.role is Role.PRIMARY and any(role is Role.PRIMARY for role, _ in self._strangers())
        return None if in_the_way else slave.role

    def _strangers(self) -> Iterator[tuple[Role, Link]]:
        """Yield the named links that are there and are not what they are to be."""
        for role, link in self._named.present():
            slave = self._parts.members.slave_of(link)
            if slave is None or slave.role is not role:
                yield role, link

    def _fresh_registry(self) -> Registry:
        """Return slots with nobody in them, to ask what they would say."""
        parts, after = self._parts, self._after
        return Registry(
            after.name,
            parts.registry.mac,
            after.standby,
            after.primary,
            backups=after.backups,
            slots=after.slots,
            mac_policy=parts.mac_policy,
        )


def _named_role(settings: Settings, link: str) -> Role | None:
    """Return the role in which a link is named."""
    if link == settings.standby:
        return Role.STANDBY
    if link == settings.primary:
        return Role.PRIMARY
    return Role.BACKUP if any(backup.link == link for backup in settings.backups) else None
