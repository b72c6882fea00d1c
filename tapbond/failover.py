"""The failover's life: create … destroy (the kernel's drivers/net/net_failover.c, net_failover_create())."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from tapbond.adopted import AdoptionFile
from tapbond.adoption import Adoption
from tapbond.announcer import Announcer
from tapbond.datapath.pump import Pump
from tapbond.errors import NoSuchInterfaceError
from tapbond.events import EventStream
from tapbond.isolation import Isolation, open_isolation
from tapbond.journal import Journal
from tapbond.links import Links
from tapbond.macpolicy import POLICIES
from tapbond.master import Master
from tapbond.membership import Membership
from tapbond.model import (
    Detector,
    Event,
    Link,
    Role,
    SlaveRegistered,
    SlaveReleased,
    Status,
    Switchover,
)
from tapbond.poll import CarrierPoll
from tapbond.probe.prober import Prober
from tapbond.propagation import Propagation
from tapbond.recovery import clean_up
from tapbond.registry import Registry
from tapbond.rtbatch import RtBatch
from tapbond.rtnetlink import Rtnetlink
from tapbond.rundir import RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.slave import Registrar, Slave
from tapbond.surface import Surface

log = structlog.get_logger()

STATUS_SWITCHOVERS = 16


class Failover:
    """A TAP interface that survives its primary.

    ``async with Failover("tb0", standby="eth0", primary="eth1") as failover:`` creates it and, at the end,
    gives everything back as it was found.

    Args:
        name: of the TAP.
        clock: CLOCK_MONOTONIC in ns.
        options: the fields of tapbond.settings.Settings, or all of them as ``settings``.

    Raises:
        TapbondError: options that contradict each other.
    """

    def __init__(self, name: str, *, clock: Callable[[], int] = time.monotonic_ns, **options: Any) -> None:
        settings = options.pop("settings", None) or Settings.of(name, options)
        self.settings: Settings = settings
        self._mac_policy = POLICIES[settings.mac_policy]
        self.name = settings.name
        self.ready = asyncio.Event()
        """Set when the failover has its carrier for the first time."""
        self.lost = asyncio.Event()
        """Set when the TAP has gone, so that only destroy() is left."""
        self.lost_because = ""
        self._run_dir = RunDir(self.settings.run_dir)
        self._clock = clock
        self._events = EventStream()
        self._unwind = AsyncExitStack()
        self._created_ns = 0

    async def __aenter__(self) -> Self:
        await self.create()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    async def create(self) -> None:
        """Make the TAP and register the slaves that are there.

        Raises:
            NoSuchInterfaceError: the standby does not exist.
            RefusedError: a named link cannot be a slave.
            TapbondError: anything else; nothing is changed then.
        """
        async with AsyncExitStack() as unwind:
            await self._open_kernel(unwind)
            await self._open_failover(unwind)
            self._unwind = unwind.pop_all()
        self._created_ns = self._clock()
        log.info(
            "failover created",
            failover=self.name,
            mac=self._registry.mac,
            mtu=self._tap_link().mtu,
            isolation=self._isolation.kind,
        )

    async def destroy(self) -> None:
        """Give everything back: slaves as they were found, no TAP unless it is persistent. Idempotent."""
        unwind, self._unwind = self._unwind, AsyncExitStack()
        await unwind.aclose()
        self._events.emit(None)

    def events(self) -> AsyncIterator[Event]:
        """Return what happens from now on; it ends with the failover."""
        return self._events.subscribe()

    def status(self) -> Status:
        """Return what ``tapbond status --json`` prints."""
        selector, tap, now_ns = self._selector, self._tap_link(), self._clock()
        active, requested = selector.active, selector.requested
        return Status(
            name=self.name,
            ifindex=tap.ifindex,
            mac=tap.mac,
            mtu=tap.mtu,
            up=tap.up,
            carrier=selector.carrier,
            active=active.name if active else None,
            requested=requested.name if requested else None,
            rx=self.settings.rx,
            isolation=self._isolation.kind,
            slaves=tuple(
                slave.status(self._pump, slave is active, self._isolation.kind, now_ns)
                for slave in selector.slaves
            ),
            counters=self._pump.total(),
            links=self._surface.counters,
            switchovers=selector.switchovers.count,
            last_switchovers=tuple(selector.switchovers.records)[-STATUS_SWITCHOVERS:],
            pid=os.getpid(),
            uptime_s=round((now_ns - self._created_ns) / 1e9, 3),
        )

    def switchovers(self) -> tuple[Switchover, ...]:
        """Return the records of the last 256 switchovers, oldest first; an incomplete one is not among them."""
        return tuple(self._selector.switchovers.records)

    async def refresh(self) -> None:
        """Read what the slaves' drivers count, so that status() tells it as of now, not of a second ago."""
        await self._surface.refresh()

    def switch(self, slave: str | None) -> None:
        """Make a slave active by hand, for as long as it is ready; None: let the rules choose again.

        Raises:
            NoSuchSlaveError: it is not a slave, or not ready.
        """
        self._selector.request(None if slave is None else self._members.slave(slave))

    async def add(self, link: str, role: Role | str = Role.PRIMARY, prio: int | None = None) -> None:
        """Register a link by hand; ``prio`` is a backup's or a standby's, None: as configured, else 0.

        Raises:
            NoSuchInterfaceError, RefusedError, BusyError: it cannot be a slave; it was left as it was.
        """
        ifindex = self._links.by_name(link).ifindex
        self._members.welcome(ifindex)
        await self._members.register(ifindex, Role(role), prio)

    def rank(self, slave: str, *, prio: int | None = None, sticky: bool | None = None) -> None:
        """Give a slave another ``prio``, or make it sticky or not; None: as it is.

        Raises:
            NoSuchSlaveError: it is not a slave.
        """
        self._selector.rank(self._members.slave(slave), prio=prio, sticky=sticky)

    async def remove(self, slave: str) -> None:
        """Give a slave back as it was found; it is not taken again on its own.

        Raises:
            NoSuchSlaveError: it is not a slave.
        """
        await self._members.remove(self._members.slave(slave), "removed")

    # What the links tell.

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        """Take note of a link that appeared or changed."""
        if self._master.ifindex in (link.ifindex, link.parent):
            self._surface.changed()
        self._announcer.concerned(link.ifindex)
        if link.ifindex == self._master.ifindex:
            self._propagation.master_changed(link)
            return
        slave = self._members.slave_of(link.ifindex)
        if slave is None:
            self._members.consider(link)
            return
        if slave.name != link.name:
            log.info("slave renamed", failover=self.name, slave=slave.name, to=link.name)
            self._selector.switchovers.renamed(slave.name, link.name)
        moved = link.mac != slave.link.mac
        self._selector.update(slave, link, detector, when_ns)
        if moved:
            self._slave_mac_changed(slave)
        self._surface.changed(link.ifindex)

    def link_removed(self, link: Link, when_ns: int) -> None:
        """Take note of a link that was deleted or moved to another namespace."""
        self._surface.gone(link, self._links.last_counters)
        self._members.gone(link.ifindex, when_ns)
        self._announcer.concerned(link.ifindex)

    def addresses_changed(self, ifindex: int) -> None:
        """Announce other addresses from now on."""
        self._announcer.concerned(ifindex)

    # How it is made. Each step pushes what undoes it.

    async def _open_kernel(self, unwind: AsyncExitStack) -> None:
        """Open what tells of links and changes them; find out whose MAC it is; refuse before any change."""
        self._run_dir.make()
        unwind.callback(self._run_dir.lock_failover(self.name).release)
        self._rtnetlink = Rtnetlink()
        unwind.push_async_callback(self._rtnetlink.close)
        await self._rtnetlink.open()
        self._links = Links(self._rtnetlink, self._clock)
        unwind.push_async_callback(self._links.close)
        await self._links.open()
        self._journal = Journal(self._run_dir.journal(self.name))
        self._adoption = Adoption(
            RtBatch(self._rtnetlink), self._links, AdoptionFile(self._run_dir.adopted(self.name))
        )
        await clean_up(self.name, self._rtnetlink, self._links, self._journal, self._adoption)
        self._registry = Registry(
            self.name,
            self._find_mac(),
            self.settings.standby,
            self.settings.primary,
            backups=self.settings.backups,
            slots=self.settings.slots,
            mac_policy=self._mac_policy,
        )
        for role, link in self._named_links():
            self._registry.check(link, role, self._links.by_index)

    async def _open_failover(self, unwind: AsyncExitStack) -> None:
        """Make the TAP, then its slaves: the master comes first, as in net_failover_create()."""
        self._isolation: Isolation = await open_isolation(self.settings.isolation, self.name, self._rtnetlink)
        unwind.push_async_callback(self._isolation.close)
        self._master = Master(self.name, self._rtnetlink, self._tap_lost)
        unwind.callback(self._master.close)
        await self._master.set_up(self._registry.mac, self.settings.mtu, self._standby_mtu())
        adopting = await self._adopt(unwind)
        settings = self.settings
        self._pump = Pump(
            self._master.fileno(),
            settings.drain_ns,
            tolerant=settings.downdelay_ns > 0,
            silent=settings.announce_count == 0 or self._mac_policy.follows,
        )
        unwind.push_async_callback(self._pump.close)
        self._announcer = Announcer(
            self._pump, self._links, count=settings.announce_count, interval_ns=settings.announce_interval_ns
        )
        unwind.callback(self._announcer.close)
        self._selector = Selector(
            self.name,
            self.settings.rx,
            self._pump,
            self._links,
            set_carrier=self._set_carrier,
            emit=self._emit,
            failed=self._master.failed,
            clock=self._clock,
            reselect=self.settings.reselect,
            switched=self._switched,
        )
        unwind.callback(self._selector.close)
        self._surface = Surface(self.name, self._rtnetlink, self._pump, self._selector, self._clock)
        unwind.push_async_callback(self._surface.close)
        await self._surface.open(self._master.ifindex)
        registrar = Registrar(
            self._rtnetlink,
            self._isolation,
            self._pump,
            self._journal,
            self._mac_policy,
            failover=self.name,
            greet=self._surface.greet,
        )
        registrar.adopting = adopting
        self._members = Membership(
            self._registry,
            registrar,
            self._selector,
            self._links,
            self._run_dir,
            settings=self.settings,
            isolation=self._isolation.kind,
            emit=self._emit,
            clock=self._clock,
        )
        unwind.push_async_callback(self._members.close)
        unwind.push_async_callback(self._give_back)
        self._propagation = Propagation(
            self._registry,
            self._master,
            self._members,
            self._selector.slaves,
            registrar,
            self._rtnetlink,
            mac_policy=self._mac_policy,
            mac_changed=self._mac_changed,
            emit=self._emit,
        )
        unwind.push_async_callback(self._propagation.close)
        self._poll = CarrierPoll(self._selector.slaves, self._links, self._pump, self._clock, self.settings.poll_s)
        unwind.callback(self._poll.stop)
        self._prober = Prober(
            self.name, self._selector, lambda: self._registry.mac, self.settings.probing, self._clock
        )
        unwind.callback(self._prober.stop)
        self._pump.start(self._selector)
        self._links.listen(self)
        unwind.callback(self._links.unlisten, self)
        await self._links.refresh()
        tap = self._tap_link()
        self._members.mtu, self._members.up = tap.mtu, tap.up
        self._announcer.introduce(tap.ifindex, self._registry.mac)
        if adopting:
            self._selector.start()  # the standby carries frames as soon as it is a slave
        for role, link in self._named_links():
            await self._members.register(link.ifindex, role)
            if link.ifindex == adopting:
                await self._adoption.move(tap)
        self._selector.start()
        for link in tuple(self._links.by_index.values()):
            if self._members.slave_of(link.ifindex) is None:
                self._members.consider(link)
        self._poll.start()
        self._prober.start()

    async def _adopt(self, unwind: AsyncExitStack) -> int:
        """Let the TAP have the standby's addresses too; return the standby's ifindex, 0: nothing to adopt."""
        if not self.settings.adopt:
            return 0
        unwind.push_async_callback(self._adoption.finish)
        await self._links.refresh()
        standby = self._links.by_name(self.settings.standby or "")
        return standby.ifindex if await self._adoption.hold(standby, self._tap_link()) else 0

    async def _give_back(self) -> None:
        """Give back what was adopted, over the standby: the switch learns first where the MAC will be."""
        standby = next((slave for slave in self._selector.slaves if slave.role is Role.STANDBY), None)
        if self.settings.adopt and standby is not None and not standby.why_not_ready(self._clock()):
            self._selector.request(standby)
            for other in [slave for slave in self._selector.slaves if slave is not standby]:
                await self._members.remove(other, "failover destroyed")
        await self._adoption.give_back()

    def _find_mac(self) -> str:
        if self.settings.mac is not None:
            return self.settings.mac.lower()
        standby = self.settings.standby or ""
        try:
            return self._links.by_name(standby).mac
        except NoSuchInterfaceError as error:
            raise NoSuchInterfaceError(
                standby, "the standby gives the failover its MAC; --mac starts without it"
            ) from error

    def _standby_mtu(self) -> int | None:
        return next((link.mtu for role, link in self._named_links() if role is Role.STANDBY), None)

    def _named_links(self) -> list[tuple[Role, Link]]:
        """Return the named links that are there, the standby first."""
        named = (
            (Role.STANDBY, self.settings.standby),
            (Role.PRIMARY, self.settings.primary),
            *((Role.BACKUP, backup.link) for backup in self.settings.backups),
        )
        by_name = {link.name: link for link in self._links.by_index.values()}
        return [(role, by_name[name]) for role, name in named if name in by_name]

    def _tap_link(self) -> Link:
        return self._links.by_index[self._master.ifindex]

    def _switched(self, slave: Slave | None) -> None:
        """Another slave sends."""
        self._surface.changed()
        if slave is None or not self._mac_policy.follows:
            self._announcer.switched(None if slave is None else slave.port)
        elif not self._propagation.follow(slave):
            self._announcer.begin(slave.port)

    def _slave_mac_changed(self, slave: Slave) -> None:
        if slave is self._selector.active:
            self._propagation.follow(slave)
        self._members.spawn(self._propagation.give(slave))

    def _mac_changed(self) -> None:
        """The failover has another MAC: say so on the slave that sends."""
        self._announcer.introduce(self._master.ifindex, self._registry.mac)
        if (active := self._selector.active) is not None:
            self._announcer.begin(active.port)

    def _set_carrier(self, on: bool) -> None:
        self._master.set_carrier(on)
        if on:
            self.ready.set()

    def _tap_lost(self, reason: str) -> None:
        self.lost_because = reason
        self.lost.set()

    def _emit(self, event: Event) -> None:
        if isinstance(event, Switchover):
            log.info("switchover", **msgspec.structs.asdict(event))
        elif isinstance(event, SlaveRegistered | SlaveReleased):
            self._poll.follow()
            self._prober.follow()
            self._surface.changed(event.ifindex if isinstance(event, SlaveRegistered) else 0)
        self._events.emit(event)


async def create(name: str, **options: Any) -> Failover:
    """Create a failover, as net_failover_create() does; any number may live in one process.

    Args:
        name: of the TAP.
        options: the fields of tapbond.settings.Settings.

    Returns:
        It, running, until destroy().

    Raises:
        TapbondError: see Failover.create(); nothing is changed then, and no other failover disturbed.
    """
    failover = Failover(name, **options)
    await failover.create()
    return failover


async def destroy(failover: Failover | None) -> None:
    """End a failover and give everything back, as net_failover_destroy() does; None and again are harmless."""
    if failover is not None:
        await failover.destroy()
