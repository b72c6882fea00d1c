"""What is set on the failover reaches its slaves: MTU, up and down, MAC.

net_failover_change_mtu(), net_failover_open() and net_failover_close() in drivers/net/net_failover.c. The driver
is asked before its interface changes and can say no; a TAP has changed already when netlink tells of it. So a
change that a slave does not take is taken back on the slaves that did, and on the TAP, and said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.macpolicy import MacPolicy
from tapbond.membership import Membership
from tapbond.model import ChangeRefused, Event, Link
from tapbond.policy import RANK
from tapbond.registrar import Registrar
from tapbond.registry import Registry
from tapbond.rtnetlink import Rtnetlink
from tapbond.slave import Slave
from tapbond.whereabouts import Whereabouts

log = structlog.get_logger()

Change = Callable[[Link], Awaitable[None]]


class Propagation:
    """Passes on to the slaves what is changed on the failover, one change at a time, in the order of the kernel.

    Args:
        registry: holds the failover's MAC.
        master: the TAP.
        members: its slaves.
        slaves: a live list of them.
        registrar: writes down what they are given.
        rtnetlink: where the slaves are.
        mac_policy: what becomes of a new MAC.
        mac_changed: is called when the failover has another MAC for good.
        emit: takes the events.
    """

    def __init__(
        self,
        registry: Registry,
        master: Whereabouts,
        members: Membership,
        slaves: Sequence[Slave],
        registrar: Registrar,
        rtnetlink: Rtnetlink,
        *,
        mac_policy: MacPolicy,
        mac_changed: Callable[[], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._registry = registry
        self._master = master
        self._members = members
        self._slaves = slaves
        self._registrar = registrar
        self._rtnetlink = rtnetlink
        self._mac_policy = mac_policy
        self._mac_changed = mac_changed
        self._emit = emit
        self._newest: Link | None = None
        self._task: asyncio.Task[None] | None = None

    def master_changed(self, link: Link) -> None:
        """Take note of how the TAP is now; whatever differs from before is passed on in the background."""
        self._newest = link
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._pass_on())

    async def give(self, slave: Slave) -> None:
        """Give a slave the failover's MAC again that somebody has changed, if that is the policy; else say so."""
        async with self._members.one_at_a_time:
            try:
                if self._mac_policy.gives:
                    await self._mac_policy.take(self._rtnetlink, slave.link, self._registry.mac)
                reason = self._mac_policy.refusal(self._registry.failover, slave.link, self._registry.mac)
            except TapbondError as error:
                reason = str(error)
        if reason and not slave.gone:
            log.warning("slave may hear nothing", slave=slave.name, reason=reason)

    async def close(self) -> None:
        """Finish what is under way; each change takes milliseconds."""
        self._newest = None
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _pass_on(self) -> None:
        while (link := self._newest) is not None:
            self._newest = None
            async with self._members.one_at_a_time:
                try:
                    await self._pass_on_changes(link)
                except TapbondError as error:
                    log.warning("change not passed on", failover=self._registry.failover, error=str(error))

    async def _pass_on_changes(self, link: Link) -> None:
        if link.mtu != self._members.mtu:
            await self._mtu(link.mtu)
        if link.mac != self._registry.mac and (now := await self._master.look()) is not None:
            await self._mac(now.mac)  # the news may be older than a MAC that was followed meanwhile
        if link.up != self._members.up:
            await self._open_or_close(link.up)

    async def _mtu(self, mtu: int) -> None:
        former = self._members.mtu
        reason = self._out_of_limits(mtu) or await self._all_or_none(
            lambda slave: self._rtnetlink.set_mtu(slave, mtu),
            lambda slave: self._rtnetlink.set_mtu(slave, slave.mtu),
        )
        if reason:
            self._refuse(f"MTU {mtu}", reason)
            await self._master.set_mtu(former)
            return
        self._members.mtu = mtu
        log.info("MTU changed", failover=self._registry.failover, mtu=mtu)

    def _out_of_limits(self, mtu: int) -> str:
        for link in self._links():
            if link.max_mtu and mtu > link.max_mtu:
                return f"{link.name} takes {link.max_mtu} bytes at most"
            if mtu < link.min_mtu:
                return f"{link.name} takes {link.min_mtu} bytes at least"
        return ""

    async def _mac(self, mac: str) -> None:
        if mac == self._registry.mac:
            return
        former = self._registry.mac
        reason = self._mac_policy.why_fixed(self._registry.failover, former)
        if not reason:
            self._registrar.will_give(mac)
        reason = reason or await self._all_or_none(
            lambda slave: self._mac_policy.take(self._rtnetlink, slave, mac),
            lambda slave: self._rtnetlink.set_mac(slave, slave.mac),
        )
        if reason:
            self._refuse(f"MAC {mac}", reason)
            await self._master.set_mac(former)
            return
        self._registry.mac = mac
        log.info("MAC changed", failover=self._registry.failover, mac=mac)
        self._mac_changed()

    async def _open_or_close(self, up: bool) -> None:
        """Open or close every slave; one that does not open is reported and does not stop the others.

        A TAP that is deleted, or moves to another namespace, is told to be down first: that closes nobody. Nor
        does one that is up again by now.
        """
        if not up and ((now := await self._master.look()) is None or now.up):
            return
        self._members.up = up
        log.info("set up, slaves too" if up else "set down, slaves too", failover=self._registry.failover)
        for link in self._links():
            try:
                await self._rtnetlink.set_up(link, up)
            except NoSuchInterfaceError:
                continue
            except TapbondError as error:
                self._refuse("up" if up else "down", str(error))

    async def _all_or_none(self, change: Change, undo: Change) -> str:
        """Change all slaves, or none; ``undo`` gets a link as it was.

        Returns:
            Why not; empty when all are changed. A slave that has gone meanwhile is no reason, and one that
            does not go back is no reason to leave the others as they are.
        """
        changed: list[Link] = []
        for link in self._links():
            try:
                await change(link)
            except NoSuchInterfaceError:
                continue
            except TapbondError as error:
                await take_back(undo, reversed(changed))
                return str(error)
            changed.append(link)
        return ""

    def _links(self) -> list[Link]:
        """Return the slaves' links as they are now, in the kernel's order: the primary, then the standby."""
        return [slave.link for slave in sorted(self._slaves, key=lambda slave: (RANK[slave.role], slave.port))]

    def _refuse(self, what: str, reason: str) -> None:
        log.warning("change refused", failover=self._registry.failover, change=what, reason=reason)
        self._emit(ChangeRefused(failover=self._registry.failover, change=what, reason=reason))


async def take_back(undo: Change, links: Iterable[Link]) -> None:
    """Undo a change on each of these links, whatever becomes of the others."""
    for link in links:
        try:
            await undo(link)
        except NoSuchInterfaceError:
            continue
        except TapbondError as error:
            log.warning("slave keeps a change that was taken back", slave=link.name, error=str(error))
