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

from tapbond.announce import announcements
from tapbond.arrivals import Arrivals
from tapbond.datapath.pump import Pump
from tapbond.events import EventStream
from tapbond.isolation import Isolation, open_isolation
from tapbond.journal import Journal
from tapbond.macpolicy import POLICIES
from tapbond.master import Master
from tapbond.membership import Membership
from tapbond.model import (
    Event,
    Link,
    Role,
    SlaveRegistered,
    SlaveReleased,
    Status,
    Switchover,
)
from tapbond.named import NamedLinks
from tapbond.places import Places
from tapbond.poll import CarrierPoll
from tapbond.recovery import clean_up
from tapbond.registry import Registry
from tapbond.rundir import RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.slave import Registrar
from tapbond.visit import VisitedPlace
from tapbond.whereabouts import Whereabouts

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
        self.settings = settings
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
            mtu=self._whereabouts.link.mtu,
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
        selector, tap, now_ns = self._selector, self._whereabouts.link, self._clock()
        active, requested = selector.active, selector.requested
        return Status(
            name=self.name,
            interface=self._master.interface,
            netns=self._whereabouts.netns,
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
            switchovers=selector.switchovers.count,
            last_switchovers=tuple(selector.switchovers.records)[-STATUS_SWITCHOVERS:],
            pid=os.getpid(),
            uptime_s=round((now_ns - self._created_ns) / 1e9, 3),
        )

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
        ifindex = self._places.slaves.links.by_name(link).ifindex
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

    # What the TAP's place tells.

    def _tap_changed(self, link: Link) -> None:
        """Take note of how the TAP is now, wherever it is."""
        self._members.mtu, self._members.up = link.mtu, link.up

    def _addresses_changed(self) -> None:
        """Announce other addresses from now on."""
        where = self._whereabouts
        addresses = [address.ip for address in where.place.links.addresses(where.link.ifindex)]
        self._pump.set_announcements(self._registry.mac, announcements(self._registry.mac, addresses))

    # How it is made. Each step pushes what undoes it.

    async def _open_kernel(self, unwind: AsyncExitStack) -> None:
        """Open what tells of links and changes them; find out whose MAC it is; refuse before any change."""
        self._places = Places(self.settings, self._run_dir, self._clock)
        await self._places.open(unwind)
        home, slaves = self._places.home, self._places.slaves
        self._journal = Journal(self._run_dir.journal(self.name))
        await clean_up(self.name, home, self._journal, self._run_dir.pin(self.name), (slaves,))
        self._named = NamedLinks(self.settings, slaves)
        self._registry = Registry(
            self.name,
            self._named.mac(),
            self.settings.standby,
            self.settings.primary,
            backups=self.settings.backups,
            slots=self.settings.slots,
            mac_policy=POLICIES[self.settings.mac_policy],
        )
        for role, link in self._named.present():
            self._registry.check(link, role, slaves.links.by_index)

    async def _open_failover(self, unwind: AsyncExitStack) -> None:
        """Make the TAP, then its slaves: the master comes first, as in net_failover_create()."""
        home, found = self._places.home, self._places.slaves
        pin = self._run_dir.pin(self.name)
        self._isolation: Isolation = await open_isolation(self.settings.isolation, self.name, found, pin)
        unwind.push_async_callback(self._isolation.close)
        lived = self._isolation.refuge.place if self._isolation.refuge else found
        self._master = Master(self.name, home.rtnetlink, self._tap_lost)
        unwind.callback(self._master.close)
        await self._master.set_up(self._registry.mac, self.settings.mtu, self._named.standby_mtu())
        self._pump = Pump(self._master.fileno(), self.settings.drain_ns, lived.socket)
        unwind.push_async_callback(self._pump.close)
        self._selector = Selector(
            self.name,
            self.settings.rx,
            self._pump,
            lived.links,
            set_carrier=self._set_carrier,
            emit=self._emit,
            failed=self._master.failed,
            clock=self._clock,
            reselect=self.settings.reselect,
        )
        unwind.callback(self._selector.close)
        self._members = Membership(
            self._registry,
            Registrar(found.rtnetlink, self._isolation, self._pump, self._journal, found.name),
            self._selector,
            found.links,
            self._places.slave_run_dir,
            settings=self.settings,
            isolation=self._isolation.kind,
            emit=self._emit,
            clock=self._clock,
            slave_links=lived.links,
        )
        unwind.push_async_callback(self._members.close)
        self._poll = CarrierPoll(
            self._selector.slaves, lived.links, self._pump, self._clock, self.settings.poll_s, lived.socket
        )
        unwind.callback(self._poll.stop)
        self._pump.start(self._selector)
        await home.links.refresh()
        away = VisitedPlace(self._master.open_netns, self._clock)
        self._whereabouts = Whereabouts(self._master, home, away, self._tap_changed, self._addresses_changed)
        unwind.callback(self._whereabouts.close)
        self._whereabouts.open()
        arrivals = Arrivals(self.name, self._members, self._selector, self._whereabouts.is_tap)
        for links in {id(place): place.links for place in (found, lived)}.values():
            links.listen(arrivals)
            unwind.callback(links.unlisten, arrivals)
        self._addresses_changed()
        for role, link in self._named.present():
            await self._members.register(link.ifindex, role)
        self._selector.start()
        for link in tuple(found.links.by_index.values()):
            if self._members.slave_of(link) is None and not self._whereabouts.is_tap(link):
                self._members.consider(link)
        self._poll.start()

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
        self._events.emit(event)
