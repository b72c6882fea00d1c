"""The parts of one failover, in the order in which they are made, and what they tell each other.

Each step pushes what undoes it; taking the stack down gives everything back in reverse.
"""

import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

from tapbond.adopted import AdoptionFile
from tapbond.adoption import Adoption
from tapbond.announcer import Announcer
from tapbond.arrivals import Arrivals
from tapbond.datapath.choice import open_datapath
from tapbond.errors import NoSuchInterfaceError
from tapbond.following import Following
from tapbond.groups import read_proc
from tapbond.isolation import Isolation, open_isolation
from tapbond.journal import Journal
from tapbond.macpolicy import POLICIES
from tapbond.master import Master
from tapbond.membership import Membership
from tapbond.model import Event, Link, ReceiveMode, SlaveRegistered, SlaveReleased, Slots
from tapbond.named import NamedLinks
from tapbond.places import Places
from tapbond.poll import CarrierPoll
from tapbond.probe.port import socket_opener
from tapbond.probe.prober import Prober
from tapbond.propagation import Propagation
from tapbond.recovery import clean_up
from tapbond.registrar import Registrar
from tapbond.registry import Registry
from tapbond.rtbatch import RtBatch
from tapbond.rundir import RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.slave import Slave
from tapbond.surface import Surface
from tapbond.takeover import Takeover
from tapbond.visit import VisitedPlace
from tapbond.whereabouts import Whereabouts


class Assembly:
    """Everything that a failover is made of, once open_kernel() and open_failover() are done.

    Args:
        settings: of the failover.
        emit: takes the events.
        set_ready: is called when the failover has a carrier.
        lost: is called with the reason when the TAP has gone.
        changed: is called when another slave sends, or would follow it, and when slaves come and go.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        emit: Callable[[Event], None],
        set_ready: Callable[[], None],
        lost: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.mac_policy = POLICIES[settings.mac_policy]
        self.run_dir = RunDir(settings.run_dir)
        self._emit = emit
        self._set_ready = set_ready
        self._lost = lost
        self._changed = changed
        self._clock = clock

    # How it is made.

    async def open_kernel(self, unwind: AsyncExitStack) -> None:
        """Open what tells of links and changes them; find out whose MAC it is; refuse before any change."""
        self.places = Places(self.settings, self.run_dir, self._clock)
        await self.places.open(unwind)
        home, found = self.places.home, self.places.slaves
        self.journal = Journal(self.run_dir.journal(self.name))
        adopted = AdoptionFile(self.run_dir.adopted(self.name))
        self.adoption = Adoption(RtBatch(home.rtnetlink), home.links, adopted)
        await clean_up(self.name, home, self.journal, self.run_dir.pin(self.name), self.adoption, (found,))
        self.named = NamedLinks(self.settings, found)
        self.registry = Registry(
            self.name,
            self.named.mac(),
            self.settings.standby,
            self.settings.primary,
            backups=self.settings.backups,
            slots=Slots.KERNEL if self.settings.rx is ReceiveMode.KERNEL else self.settings.slots,
            mac_policy=self.mac_policy,
        )
        for role, link in self.named.present():
            self.registry.check(link, role, found.links.by_index)

    async def open_failover(self, unwind: AsyncExitStack) -> None:
        """Make the TAP, then its slaves: the master comes first, as in net_failover_create()."""
        home, found = self.places.home, self.places.slaves
        pin = self.run_dir.pin(self.name)
        self.isolation: Isolation = await open_isolation(self.settings.isolation, self.name, found, pin)
        unwind.push_async_callback(self.isolation.close)
        self.lived = self.isolation.refuge.place if self.isolation.refuge else found
        self.master = Master(self.name, home.rtnetlink, self._lost, self.settings.queue_count())
        unwind.callback(self.master.close)
        await self.master.set_up(self.registry.mac, self.settings.mtu, self.named.standby_mtu())
        self.takeover = Takeover(self.settings, self.adoption, home.links, self._clock)
        adopting = await self.takeover.hold(unwind)
        await home.links.refresh()
        self._open_datapath(unwind)
        registrar = await self._open_slaves(unwind, adopting)
        self.pump.start(self.selector)
        await home.links.refresh()
        self._follow_master(unwind, registrar)
        await self._begin(unwind, adopting)

    def _open_datapath(self, unwind: AsyncExitStack) -> None:
        settings, home = self.settings, self.places.home
        tap = self.places.home.links.by_index.get(self.master.ifindex)
        self.redirect, self.pump = open_datapath(
            settings, self.master.filenos(), tap, self.lived.socket, self._clock, self._emit, unwind
        )
        self.announcer = Announcer(
            self.pump,
            home.links,
            count=settings.announce_count,
            interval_ns=settings.announce_interval_ns,
            read=self._read_groups,
        )
        unwind.callback(self.announcer.close)
        self.selector = Selector(
            self.name,
            settings.rx,
            self.pump,
            self.lived.links,
            set_carrier=self._set_carrier,
            emit=self._take_note,
            failed=self.master.failed,
            clock=self._clock,
            reselect=settings.reselect,
            switched=self._switched,
            changed=self._changed,
        )
        unwind.callback(self.selector.close)

    async def _open_slaves(self, unwind: AsyncExitStack, adopting: int) -> Registrar:
        home, found, lived = self.places.home, self.places.slaves, self.lived
        self.surface = Surface(
            self.name, home.rtnetlink, self.pump, self.selector, self._clock, make_socket=lived.socket
        )
        unwind.push_async_callback(self.surface.close)
        await self.surface.open(self.master.ifindex)
        registrar = Registrar(
            found.rtnetlink,
            self.isolation,
            self.pump,
            self.journal,
            self.mac_policy,
            failover=self.name,
            greet=self.surface.greet,
            netns_name=found.name,
        )
        registrar.adopting = adopting
        self.members = Membership(
            self.registry,
            registrar,
            self.selector,
            found.links,
            self.places.slave_run_dir,
            settings=self.settings,
            isolation=self.isolation.kind,
            emit=self._take_note,
            clock=self._clock,
            slave_links=lived.links,
        )
        unwind.push_async_callback(self.members.close)
        unwind.push_async_callback(self.takeover.give_back, self.selector, self.members)
        slaves, poll_s = self.selector.slaves, self.settings.poll_s
        self.poll = CarrierPoll(slaves, lived.links, self.pump, self._clock, poll_s, lived.socket)
        unwind.callback(self.poll.stop)
        self.prober = Prober(
            self.name,
            self.selector,
            lambda: self.registry.mac,
            self.settings.probing,
            self._clock,
            open_socket=socket_opener(lived.socket),
        )
        unwind.callback(self.prober.stop)
        return registrar

    def _follow_master(self, unwind: AsyncExitStack, registrar: Registrar) -> None:
        home = self.places.home
        away = VisitedPlace(self.master.open_netns, self._clock)
        self.whereabouts = Whereabouts(self.master, home, away, self._tap_changed, self._tap_place_changed)
        self.propagation = Propagation(
            self.registry,
            self.whereabouts,
            self.members,
            self.selector.slaves,
            registrar,
            self.lived.rtnetlink,
            mac_policy=self.mac_policy,
            mac_changed=self._mac_changed,
            emit=self._emit,
        )
        unwind.push_async_callback(self.propagation.close)
        self.following = Following(self.registry, self.whereabouts, self.announcer)
        unwind.push_async_callback(self.following.close)
        tap = self.whereabouts.link
        self.members.mtu, self.members.up = tap.mtu, tap.up
        self._tap_place_changed()
        self.whereabouts.open()
        unwind.callback(self.whereabouts.close)

    async def _begin(self, unwind: AsyncExitStack, adopting: int) -> None:
        """Register the slaves that are there, and let things happen."""
        found, named = self.places.slaves, self.named.present()
        arrivals = self.arrivals = Arrivals(
            self.name,
            self.members,
            self.selector,
            self.surface,
            self.lived.links,
            is_tap=self.whereabouts.is_tap,
            mac_changed=self._mac_of_slave_changed,
        )
        self.members.expect(link.ifindex for _, link in named)
        for links in {id(place): place.links for place in (found, self.lived)}.values():
            links.listen(arrivals, lambda index: index == self.master.ifindex or self.members.concerns(index))
            unwind.callback(links.unlisten, arrivals)
        if adopting:
            self.selector.start()  # the standby carries frames as soon as it is a slave
        for role, link in named:
            with contextlib.suppress(NoSuchInterfaceError):  # it has gone again, and may come later
                await self.members.register(link.ifindex, role)
            if link.ifindex == adopting:
                await self.adoption.move(self.whereabouts.link)
        self.selector.start()
        arrivals.look_around(found.links)
        self.poll.start()
        self.prober.start()

    # What the TAP and its place tell.

    def _tap_changed(self, link: Link) -> None:
        """Take note of how the TAP is now, wherever it is."""
        link = msgspec.structs.replace(link, up=not self.whereabouts.was_closed)
        self.propagation.master_changed(link)
        if self.redirect is not None:
            self.redirect.tap_changed(link, at_home=self.whereabouts.at_home)
        self.surface.changed()

    def _tap_place_changed(self) -> None:
        """Take note of addresses, and of what is stacked on the TAP; or that it is in another place."""
        where = self.whereabouts
        self.announcer.look_at(None if where.blind else where.place.links)
        self.announcer.introduce(where.link.ifindex, self.registry.mac)
        self.surface.follow_tap(where.link.ifindex if where.at_home else 0)
        self.surface.changed()

    def _read_groups(self, name: str) -> str:
        """Read which groups were joined; where the TAP is elsewhere nobody stays to read."""
        return read_proc(name) if self.whereabouts.at_home else ""

    # What the selector tells.

    def _switched(self, slave: Slave | None) -> None:
        """Another slave sends."""
        self.surface.changed()
        if self.mac_policy.follows:
            self.following.follow(slave)
        else:
            self.announcer.switched(None if slave is None else slave.port)

    def _mac_of_slave_changed(self, slave: Slave) -> None:
        if self.mac_policy.follows and slave is self.selector.active:
            self.following.follow(slave)
        self.members.spawn(self.propagation.give(slave))

    def _mac_changed(self) -> None:
        """The failover has another MAC: say so on the slave that sends."""
        self.announcer.introduce(self.whereabouts.link.ifindex, self.registry.mac)
        if (active := self.selector.active) is not None:
            self.announcer.begin(active.port)

    def _set_carrier(self, on: bool) -> None:
        self.master.set_carrier(on)
        if on:
            self._set_ready()

    def _take_note(self, event: Event) -> None:
        """Follow the slaves that there are now, and pass the event on."""
        if isinstance(event, SlaveRegistered | SlaveReleased):
            self.poll.follow()
            self.surface.changed(event.ifindex if isinstance(event, SlaveRegistered) else 0)
            self.prober.follow()
            self._changed()
        self._emit(event)
