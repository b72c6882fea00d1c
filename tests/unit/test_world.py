"""Random sequences of everything that can happen to a failover of five slaves, against a small model."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import MAC, World

from tapbond.errors import NoSuchSlaveError
from tapbond.model import Counters, Detector, Reselect, Role
from tapbond.settings import Backup, Settings
from tapbond.slave import Slave
from tapbond.testing import VirtualClock, run

MS = 1_000_000
NAMES = ("eth0", "eth1", "eth2", "eth3", "eth4")
RANK = {"eth1": 0, "eth2": 1, "eth3": 2, "eth4": 2, "eth0": 3}
"""By how each is named: the primary, a backup with prio 20, two with prio 10, the standby."""
REST_S = 700.0
"""Longer than every delay."""


@dataclass
class Device:
    """A link as the model knows it."""

    ifindex: int
    up: bool = False
    carrier: bool = True
    answered: bool = True
    speed: int = 1000


names = st.sampled_from(NAMES)
events = st.one_of(
    st.tuples(st.just("up"), names, st.booleans()),
    st.tuples(st.just("carrier"), names, st.booleans()),
    st.tuples(st.just("unplug"), names),
    st.tuples(st.just("plug"), names),
    st.tuples(st.just("rename"), names),
    st.tuples(st.just("mtu"), st.sampled_from((1400, 1500, 9000))),
    st.tuples(st.just("switch"), st.none() | names),
    st.tuples(st.just("probe"), names, st.booleans()),
    st.tuples(st.just("fault"), names),
    st.tuples(st.just("speed"), names, st.sampled_from((1000, 10_000))),
    st.tuples(st.just("pass"), st.sampled_from((1, 20, 49, 51, 500, 10_000))),
    st.tuples(st.just("rest")),
)
configurations = st.builds(
    lambda reselect, updelay, downdelay, hold_down, sticky: Settings(
        name="tb0",
        standby="eth0",
        primary="eth1",
        backups=(Backup(link="eth2", prio=20), Backup(link="eth3", prio=10), Backup(link="eth4", prio=10)),
        sticky=frozenset(sticky),
        reselect=reselect,
        updelay_ns=updelay * MS,
        downdelay_ns=downdelay * MS,
        hold_down_ns=hold_down * MS,
    ),
    st.sampled_from(Reselect),
    st.sampled_from((0, 50, 2000)),
    st.sampled_from((0, 100)),
    st.sampled_from((0, 1000)),
    st.sampled_from(((), ("eth0",), ("eth2", "eth3"))),
)


class Play:
    """A World and the model of it."""

    def __init__(self, world: World, configuration: Settings) -> None:
        self.world = world
        self.configuration = configuration
        self.devices: dict[str, Device] = {}
        self.mtu = 1500
        self.renames = 0
        self.faulty = False
        """A send fails just now: the pump switches, and back when it was nothing."""
        self.seen = Counters()
        self.former: Slave | None = None

    def slave(self, name: str) -> Slave | None:
        device = self.devices.get(name)
        return None if device is None else self.world.members.slave_of(self.world.network.devices[device.ifindex])

    def key(self, slave: Slave | None) -> str | None:
        """Return how the model calls a slave, whatever its name is by now."""
        return next((name for name in self.devices if slave and self.slave(name) is slave), None)

    # Events.

    async def happen(self, event: tuple[object, ...]) -> None:
        kind, *arguments = event
        self.faulty = kind == "fault"
        await getattr(self, f"do_{kind}")(*arguments)
        await asyncio.sleep(0.001)
        self.check()

    async def do_plug(self, name: str) -> None:
        if name not in self.devices:
            taken = {link.name for link in self.world.network.devices.values()}
            link = self.world.network.add(name if name not in taken else f"x{name}", MAC, up=False)
            self.devices[name] = Device(link.ifindex)
            await asyncio.sleep(0.001)
            self.devices[name].up = True  # opened when it is registered

    async def do_unplug(self, name: str) -> None:
        if device := self.devices.get(name):
            self.world.network.delete(self.world.network.devices[device.ifindex].name)
            del self.devices[name]

    async def do_up(self, name: str, on: bool) -> None:
        if device := self.devices.get(name):
            device.up = on
            self.world.network.change(self.world.network.devices[device.ifindex].name, up=on)

    async def do_carrier(self, name: str, on: bool) -> None:
        if device := self.devices.get(name):
            device.carrier = on
            self.world.network.change(self.world.network.devices[device.ifindex].name, carrier=on)

    async def do_rename(self, name: str) -> None:
        if device := self.devices.get(name):
            self.renames += 1
            self.world.network.change(self.world.network.devices[device.ifindex].name, name=f"lan{self.renames}")

    async def do_mtu(self, mtu: int) -> None:
        self.mtu = mtu
        self.world.network.change("tb0", mtu=mtu)

    async def do_switch(self, name: str | None) -> None:
        slave = self.slave(name) if name else None
        if name is None or slave is not None:
            try:
                self.world.selector.request(slave)
            except NoSuchSlaveError:
                assert slave is not None
                assert slave.why_not_ready(self.world.clock())

    async def do_probe(self, name: str, answered: bool) -> None:
        """What a prober does: it has nothing to say of a link that is down."""
        if (device := self.devices.get(name)) and (slave := self.slave(name)):
            device.answered = slave.answered = answered
            self.world.selector.decide(Detector.PROBE, self.world.clock())

    async def do_speed(self, name: str, speed: int) -> None:
        """What a look at the link finds."""
        if (device := self.devices.get(name)) and (slave := self.slave(name)):
            device.speed = slave.speed = speed
            self.world.selector.decide(Detector.NETLINK, self.world.clock())

    async def do_fault(self, name: str) -> None:
        if slave := self.slave(name):
            self.world.pump.fault(slave.port, 100)

    async def do_pass(self, ms: int) -> None:
        self.world.pump.carry()
        await asyncio.sleep(ms / 1000)

    async def do_rest(self) -> None:
        before = self.key(self.world.selector.active)
        primary = self.slave("eth1")
        forced = primary is not None and primary.forced and primary.linked and primary.answered
        if forced and self.world.selector.requested is None:
            before = "eth1"  # its first registration: it is taken when its updelay is over, whatever ``reselect``
        await asyncio.sleep(REST_S)
        self.check_rest(before)

    # What must hold at every moment.

    def check(self) -> None:
        selector, now = self.world.selector, self.world.clock()
        active = selector.active
        ready = [slave for slave in selector.slaves if slave.facts().ready(now)]
        assert (active is None) == (not ready)
        assert self.world.carrier == (active is not None)
        if active is None:
            return
        assert active in ready
        assert active.answered or not any(slave.answered for slave in ready)
        assert self.world.pump.sender() == active.port
        if selector.requested is not None:
            assert active is selector.requested
        total = self.world.pump.total()
        assert total.tx_frames >= self.seen.tx_frames
        assert total.tx_dropped >= self.seen.tx_dropped
        self.seen = total

    def check_switch(self, now_active: Slave | None) -> None:
        """Nothing flaps faster than the delays: who leaves a slave that is fit goes to one that has settled."""
        former, self.former = self.former, now_active
        selector, now = self.world.selector, self.world.clock()
        if now_active is None or former not in selector.slaves or selector.requested is not None or self.faulty:
            return
        facts, other = former.facts(), now_active.facts()
        if former.linked and facts.ready(now) and facts.answered >= other.answered:
            assert other.settled_ns <= now

    # What must hold when everything has come to rest.

    def stays(self, active: str, fit: set[str], heard: set[str]) -> bool:
        """Return whether nothing takes over from a slave in use that is fit."""
        better = [name for name in fit if RANK[name] < RANK[active]]
        if not heard or active in self.configuration.sticky or not better:
            return True
        best = min(better, key=RANK.__getitem__)
        faster = self.devices[best].speed > self.devices[active].speed
        return {Reselect.ALWAYS: False, Reselect.BETTER: not faster, Reselect.FAILURE: True}[
            self.configuration.reselect
        ]

    def check_rest(self, before: str | None) -> None:
        selector = self.world.selector
        fit = {
            name
            for name, device in self.devices.items()
            if device.up and device.carrier and self.slave(name) is not None
        }
        heard = {name for name in fit if self.devices[name].answered}
        fit = heard or fit
        assert {name for name in self.devices if self.slave(name) is None} == set()
        self.check()
        active = self.key(selector.active)
        if not fit:
            assert active is None
        elif selector.requested is not None or (before in fit and self.stays(before, fit, heard)):
            assert active == before
        elif self.configuration.reselect is Reselect.ALWAYS:
            assert active in fit
            # A sticky one that has settled before the best of them is left for no better one.
            assert RANK[active] == min(RANK[name] for name in fit) or active in self.configuration.sticky
        else:
            assert active in fit  # the best of those that had settled when ``before`` was given up
        assert {slave.link.mtu for slave in selector.slaves} <= {self.mtu}
        switchovers = selector.switchovers.count
        selector.decide(Detector.CONTROL, self.world.clock())
        assert selector.switchovers.count == switchovers


@given(configurations, st.lists(events, max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens(configuration: Settings, script: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), clock := VirtualClock(), configuration)
        play = Play(world, configuration)
        world.selector._switched = play.check_switch

        async def main() -> None:
            world.network.links.listen(world)
            world.selector.start()
            for name in NAMES:
                await play.happen(("plug", name))
            for event in [*script, ("rest",), ("rest",)]:
                await play.happen(event)
            quiet = world.selector.switchovers.count
            await asyncio.sleep(REST_S)
            assert world.selector.switchovers.count == quiet
            assert [slave.role for slave in world.selector.slaves].count(Role.PRIMARY) <= 1
            await world.close()

        run(main(), clock)
