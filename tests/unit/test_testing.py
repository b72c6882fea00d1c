"""The fakes obey the interfaces of the real things, and behave like them."""

import asyncio
import inspect
import socket
import time
from collections.abc import Callable
from ipaddress import ip_interface

import pytest
from rig import LONG_DRAIN_NS, Rig, frame, inbound, receive, send

from tapbond.datapath import DataPath, PumpEvent
from tapbond.datapath.pump import Pump
from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.links import Links
from tapbond.model import Counters, Decision, Detector, Link, ReceiveMode, Role, SlaveFacts
from tapbond.place import Place
from tapbond.policy import decide
from tapbond.rtnetlink import Rtnetlink
from tapbond.testing import (
    PORTS_MAX,
    START_NS,
    FakeLinks,
    FakeNetwork,
    FakePlace,
    FakePump,
    FakeRtnetlink,
    VirtualClock,
    run,
)

MAC = "52:54:00:00:00:01"


def public(kind: type) -> dict[str, Callable[..., object]]:
    return {
        name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (FakePump, DataPath),
        (Pump, DataPath),
        (FakeLinks, Links),
        (FakePlace, Place),
        (FakeRtnetlink, Rtnetlink),
    ],
)
def test_a_fake_has_the_methods_of_the_real_thing(fake: type, real: type) -> None:
    for name, method in public(real).items():
        mine = getattr(fake, name)
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(method).parameters), name
        assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(method), name


def test_a_fake_of_the_kernel_leaves_no_method_to_the_real_one() -> None:
    assert public(Rtnetlink).keys() <= vars(FakeRtnetlink).keys()


# The clock and the loop.


def test_an_hour_passes_in_no_time() -> None:
    clock = VirtualClock()
    began = time.monotonic()

    async def main() -> float:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - before

    assert run(main(), clock) == pytest.approx(3600)
    assert clock() - START_NS == pytest.approx(3600e9)
    assert time.monotonic() - began < 5


def test_timers_come_in_their_order_at_their_time() -> None:
    clock = VirtualClock()
    came = []

    async def main() -> None:
        async def one(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            came.append((delay_s, round((clock() - START_NS) / 1e9, 6)))

        await asyncio.gather(*(one(delay_s) for delay_s in (3, 1, 2, 0.001)))

    run(main(), clock)
    assert came == [(0.001, 0.001), (1, 1), (2, 2), (3, 3)]


def test_what_can_be_read_comes_before_the_next_timer() -> None:
    clock = VirtualClock()

    async def main() -> bytes:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with near, far:
            far.send(b"x")
            async with asyncio.timeout(1):
                return await asyncio.get_running_loop().sock_recv(near, 10)

    assert run(main(), clock) == b"x"
    assert clock() == START_NS


def test_a_clock_does_not_run_backwards() -> None:
    clock = VirtualClock(5)
    assert clock.advance(7) == clock() == 12
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


# The network.


class Note:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def link_changed(self, link: Link, _when_ns: int, detector: Detector) -> None:
        self.told.append(("changed", link.name, link.up, link.carrier, detector))

    def link_removed(self, link: Link, _when_ns: int) -> None:
        self.told.append(("removed", link.name))

    def addresses_changed(self, ifindex: int) -> None:
        self.told.append(("addresses", ifindex))


def test_listeners_are_told_of_every_change_once() -> None:
    network, note = FakeNetwork(VirtualClock()), Note()
    network.links.listen(note)
    link = network.add("eth0", MAC)
    network.change("eth0", carrier=False)
    network.change("eth0", carrier=False)
    network.set_addresses("eth0", {ip_interface("192.0.2.1/24")})
    assert network.links.addresses(link.ifindex) == [ip_interface("192.0.2.1/24")]
    network.change("eth0", name="lan0")
    assert network.links.by_name("lan0").ifindex == link.ifindex
    network.delete("lan0")
    assert [entry[:2] for entry in note.told] == [
        ("changed", "eth0"),
        ("changed", "eth0"),
        ("addresses", link.ifindex),
        ("changed", "lan0"),
        ("removed", "lan0"),
    ]
    with pytest.raises(NoSuchInterfaceError):
        network.links.by_name("eth0")


def test_a_silent_network_tells_later() -> None:
    network, note = FakeNetwork(VirtualClock()), Note()
    network.add("eth0", MAC)
    network.links.listen(note)
    network.silent = True
    network.change("eth0", carrier=False)
    network.links.read_pending()
    assert note.told == []
    network.tell()
    assert note.told == [("changed", "eth0", True, False, Detector.NETLINK)]


def test_a_new_link_has_a_new_ifindex() -> None:
    network = FakeNetwork(VirtualClock())
    first = network.add("eth0", MAC)
    network.delete("eth0")
    assert network.add("eth0", MAC).ifindex != first.ifindex


async def test_requests_change_links_and_are_written_down() -> None:
    network = FakeNetwork(VirtualClock())
    link = network.add("eth0", MAC)
    await network.rtnetlink.set_mtu(link, 1400)
    await network.rtnetlink.set_mac(link, "52:54:00:00:00:02")
    assert (network.device("eth0").mtu, network.device("eth0").mac) == (1400, "52:54:00:00:00:02")
    assert await network.rtnetlink.find("eth0") == network.device("eth0")
    assert await network.rtnetlink.find("eth1") is None
    network.rtnetlink.failures["set_up"] = [TapbondError("no")]
    with pytest.raises(TapbondError, match="no"):
        await network.rtnetlink.set_up(link, False)
    await network.rtnetlink.set_up(link, False)
    await network.rtnetlink.delete(link)
    with pytest.raises(NoSuchInterfaceError):
        await network.rtnetlink.set_up(link, True)
    assert [request[0] for request in network.rtnetlink.requests][-2:] == ["delete", "set_up"]


# The pump: the same scene on both.


class Story:
    """What a pump tells, without what time it is and how it numbers its own."""

    def __init__(self) -> None:
        self.events: list[PumpEvent] = []

    def pump_event(self, event: PumpEvent) -> None:
        self.events.append(event)

    def told(self) -> list[tuple[str, int | None, bool]]:
        return [
            (event.kind.name, event.port, event.error != 0)
            for event in self.events
            if event.kind.name != "ADOPTED"
        ]


def decision(*order: int) -> Decision:
    """Return what the policy says when these are ready and the first was asked for."""
    slaves = [SlaveFacts(port=port, role=Role.STANDBY, up=True, carrier=True) for port in order]
    return decide(ReceiveMode.ACTIVE, slaves, 0, order[0] if order else None)


async def play_real() -> tuple[Story, Counters]:
    story, rig = Story(), Rig(3, drain_ns=LONG_DRAIN_NS)
    rig.pump.start(story)

    async def apply(wanted: Decision, seen: int = 0) -> None:
        await rig.adopted(rig.pump.apply(wanted, seen))

    async def carry() -> None:
        port = rig.pump.sender()
        await send(rig.host, [frame(1)])
        await receive(rig.far[port], 1)
        await send(rig.far[port], [inbound(1)])
        await receive(rig.host, 1)
        await rig.barrier(port)

    await apply(decision(0, 1, 2))
    await carry()
    await apply(decision(0, 1, 2))
    await apply(decision(1, 0, 2))
    rig.far[1].close()
    await send(rig.host, [frame(2)])
    await receive(rig.far[0], 1)
    await apply(decision(1, 0, 2))
    await rig.pump.detach(0)
    await apply(decision())
    rig.events = story.events
    await rig.caught_up()
    total = rig.pump.total()
    await rig.close()
    return story, total


async def play_fake() -> tuple[Story, Counters]:
    clock = VirtualClock()
    network = FakeNetwork(clock)
    story, pump = Story(), FakePump(clock, network)
    pump.start(story)
    for n in range(3):
        assert pump.attach(network.add(f"eth{n}", MAC)) == n
    pump.apply(decision(0, 1, 2), 0)
    pump.carry()
    pump.apply(decision(0, 1, 2), 0)
    pump.apply(decision(1, 0, 2), 0)
    pump.fault(1, 111)
    pump.carry()
    pump.apply(decision(1, 0, 2), 0)
    await pump.detach(0)
    pump.apply(decision(), 0)
    pump.deliver()
    return story, pump.total()


async def test_the_fake_pump_tells_the_story_of_the_real_one() -> None:
    real, real_total = await play_real()
    fake, fake_total = await play_fake()
    expected = [
        ("SWITCHED", 0, False),
        ("FIRST_TX", 0, False),
        ("FIRST_RX", 0, False),
        ("SWITCHED", 1, False),
        ("PORT_FAULT", 1, True),
        ("SWITCHED", 0, True),
        ("FIRST_TX", 0, False),
        ("SWITCHED", 2, False),
        ("SWITCHED", None, False),
    ]
    assert real.told() == expected
    assert [entry for entry in fake.told() if entry != ("FIRST_RX", 0, False)] == [
        entry for entry in expected if entry != ("FIRST_RX", 0, False)
    ]
    assert (real_total.tx_frames, fake_total.tx_frames) == (2, 2)


async def test_a_fake_pump_settles_faults_as_the_real_one_does() -> None:
    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    for n in range(2):
        pump.attach(network.add(f"eth{n}", MAC))
    pump.apply(decision(0, 1), 0)
    pump.fault(0, 100)
    assert pump.sender() == 1
    serial = pump.ports[0].fault_serial
    pump.apply(decision(0, 1), serial - 1)
    assert pump.sender() == 1
    pump.apply(decision(0, 1), serial)
    assert pump.sender() == 0


async def test_a_stalled_pump_adopts_later() -> None:
    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    port = pump.attach(network.add("eth0", MAC))
    pump.stalled = True
    pump.apply(decision(port), 0)
    assert pump.sender() is None
    detaching = asyncio.create_task(pump.detach(port))
    await asyncio.sleep(0)
    assert not detaching.done()
    pump.adopt()
    await detaching


async def test_a_fake_pump_counts() -> None:
    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    port = pump.attach(network.add("eth0", MAC))
    pump.carry()
    assert pump.total() == Counters(tx_dropped=1)
    pump.apply(decision(port), 0)
    pump.carry()
    assert pump.counters(port) == Counters(tx_frames=1, rx_frames=1)
    await pump.detach(port)
    assert pump.total() == Counters(tx_frames=1, rx_frames=1, tx_dropped=1)
    await pump.close()
    await pump.close()
    assert pump.total() == Counters(tx_frames=1, rx_frames=1, tx_dropped=1)
    with pytest.raises(RuntimeError, match="closed"):
        pump.apply(decision(), 0)


async def test_a_fake_pump_has_as_many_ports_as_the_real_one() -> None:
    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    links = [network.add(f"eth{n}", MAC) for n in range(PORTS_MAX + 1)]
    for link in links[:-1]:
        pump.attach(link)
    with pytest.raises(TapbondError, match="no more than 32 slaves"):
        pump.attach(links[-1])
    network.delete("eth0")
    with pytest.raises(NoSuchInterfaceError):
        pump.attach(links[0])
    assert pump.ready(links[0].ifindex) is None
    assert pump.ready(links[1].ifindex) is True
    network.change("eth1", carrier=False)
    assert pump.ready(links[1].ifindex) is False
