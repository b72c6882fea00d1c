"""The redirect path over a fake pump and filters that only remember, on a virtual clock."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import pytest

from tapbond.datapath import PumpEvent, PumpEventKind
from tapbond.datapath.ledger import Ledger
from tapbond.datapath.redirect import AWAY, GUESTS, RedirectPath
from tapbond.datapath.wiring import Wiring, blocks_of
from tapbond.errors import TapbondError
from tapbond.filters import Filters
from tapbond.model import Counters, DataPathChanged, DataPathName, Decision, Link
from tapbond.settings import Settings
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

if TYPE_CHECKING:
    from tapbond.datapath.fuse import Fuse

TAP = Link(ifindex=90, name="tb0", mac="02:00:00:00:00:01", up=True)
DRAIN_NS = 50_000_000
REDIRECT = DataPathName.REDIRECT
COPY = DataPathName.COPY


class FakeWiring:
    """Remembers what was asked, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.counted: dict[int, Counters] = {}
        self.refuse = ""
        """Which request is refused."""
        self.foreign: set[int] = set()
        """Links that have a qdisc of somebody else."""

    def __getattr__(self, name: str) -> object:
        def remember(what: object = 0) -> None:
            if name == self.refuse:
                raise TapbondError(f"{name} refused")
            ifindex = what.ifindex if isinstance(what, Link) else what
            self.said.append((name, cast("int", ifindex)))
            if name == "add":
                self.counted[cast("int", ifindex)] = Counters()

        return remember

    def succession(self, ifindex: int, *, receives: bool) -> bytes:
        return b"%d %d" % (ifindex, receives)

    def filtered(self) -> set[int]:
        return self.foreign

    def missing(self) -> list[tuple[int, str]]:
        return [(ifindex, "eth") for ifindex in self.foreign]

    def counters(self, ifindex: int) -> Counters:
        return self.counted[ifindex]

    def count(self, link: Link, **counters: int) -> None:
        self.counted[link.ifindex] += Counters(**counters)

    def last(self, *wanted: str) -> list[tuple[str, int]]:
        """Return what was asked since the last time, of these kinds."""
        found = [entry for entry in self.said if entry[0] in wanted]
        self.said.clear()
        return found


class FakeFuse:
    """Remembers what it waits for."""

    def __init__(self) -> None:
        self.armed: tuple[int, bytes] | None = None

    def arm(self, ifindex: int, request: bytes) -> None:
        self.armed = ifindex, request

    def disarm(self) -> None:
        self.armed = None

    def close(self) -> None:
        self.armed = None


class Rig:
    """A redirect path with two slaves."""

    def __init__(self, clock: VirtualClock, *, patient: bool = False) -> None:
        self.clock = clock
        self.network = FakeNetwork(clock)
        self.pump = FakePump(clock, self.network)
        self.wiring = FakeWiring()
        self.fuse = FakeFuse()
        self.changes: list[DataPathChanged] = []
        self.events: list[PumpEvent] = []
        self.path = RedirectPath(
            "tb0",
            self.pump,
            cast("Wiring", self.wiring),
            DRAIN_NS,
            clock,
            self.changes.append,
            cast("Fuse", self.fuse),
            patient=patient,
        )
        self.path.start(self)
        self.links = [self.network.add(name, mac="02:00:00:00:00:01") for name in ("eth0", "eth1")]

    def begin(self) -> None:
        self.path.open(TAP)
        self.ports = [self.path.attach(link) for link in self.links]

    def pump_event(self, event: PumpEvent) -> None:
        self.events.append(event)

    def told(self, kind: PumpEventKind) -> list[int | None]:
        return [event.port for event in self.events if event.kind is kind and event.serial == 0]


def decision(*order: int, drain: bool = True) -> Decision:
    return Decision(order=order, receive=frozenset(), receive_sender=True, drain=drain, requested=None)


@pytest.fixture
def rig() -> Rig:
    return Rig(VirtualClock())


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on its rig's clock."""

    @wraps(test)
    def run_it(rig: Rig, **more: object) -> None:
        run(test(rig, **more), rig.clock)

    return run_it


SWITCHING = ("send", "receive", "drain", "end_drain")


@virtual
async def test_a_planned_switch_is_made_before_it_breaks(rig: Rig) -> None:
    rig.begin()
    zero, one = (link.ifindex for link in rig.links)
    rig.path.apply(decision(1, 0), 0)
    assert rig.wiring.last(*SWITCHING) == [("send", one), ("receive", one)]
    rig.path.apply(decision(0, 1), 0)
    assert rig.wiring.last(*SWITCHING) == [("drain", one), ("receive", zero), ("send", zero)]
    await asyncio.sleep(DRAIN_NS / 1e9 + 0.001)
    assert rig.wiring.last(*SWITCHING) == [("end_drain", one)]
    assert rig.told(PumpEventKind.DRAINED) == [None]


@virtual
async def test_from_a_slave_that_is_lost_sending_is_switched_first(rig: Rig) -> None:
    rig.begin()
    zero, one = (link.ifindex for link in rig.links)
    rig.path.apply(decision(1, 0), 0)
    rig.wiring.said.clear()
    rig.network.change("eth1", carrier=False)
    rig.path.apply(decision(0), 0)
    assert rig.wiring.last(*SWITCHING) == [("send", zero), ("receive", zero)]
    await asyncio.sleep(0.001)
    assert rig.told(PumpEventKind.DRAINED) == [None]
    assert one in rig.wiring.counted


@virtual
async def test_a_slave_that_is_removed_while_it_works_is_drained(rig: Rig) -> None:
    rig.begin()
    zero, one = (link.ifindex for link in rig.links)
    rig.path.apply(decision(1, 0), 0)
    rig.wiring.said.clear()
    rig.network.change("eth1", up=True, carrier=True)
    rig.path.apply(decision(0), 0)
    assert rig.wiring.last(*SWITCHING) == [("drain", one), ("receive", zero), ("send", zero)]


@virtual
async def test_tuned_it_drains_for_another_time_and_leaves_a_slave_that_is_down_alone(rig: Rig) -> None:
    rig.begin()
    rig.path.apply(decision(1, 0), 0)
    rig.path.tune(2 * DRAIN_NS, tolerant=True, silent=False)
    assert rig.fuse.armed is None
    rig.path.apply(decision(0, 1), 0)
    await asyncio.sleep(1.5 * DRAIN_NS / 1e9)
    assert rig.told(PumpEventKind.DRAINED) == []
    await asyncio.sleep(DRAIN_NS / 1e9)
    assert rig.told(PumpEventKind.DRAINED) == [None]
    rig.path.tune(DRAIN_NS, tolerant=False, silent=False)
    assert rig.fuse.armed is not None


@virtual
async def test_a_qdisc_in_the_way_is_tried_again_only_once_it_has_gone(rig: Rig) -> None:
    """Each try adds and removes a qdisc of its own, and is told of it."""
    rig.begin()
    rig.wiring.foreign, rig.wiring.refuse = {rig.links[0].ifindex}, "add"
    rig.path.qdiscs_changed()
    assert rig.path.name is COPY
    tries = len(rig.wiring.said)
    for _ in range(3):
        rig.path.qdiscs_changed()
    assert len(rig.wiring.said) == tries
    rig.wiring.foreign, rig.wiring.refuse = set(), ""
    rig.path.qdiscs_changed()
    assert rig.path.name is REDIRECT


@virtual
async def test_back_before_the_drain_is_over(rig: Rig) -> None:
    rig.begin()
    zero, one = (link.ifindex for link in rig.links)
    for order in ((1, 0), (0, 1), (1, 0)):
        rig.path.apply(decision(*order), 0)
    assert rig.wiring.last(*SWITCHING)[-4:] == [
        ("drain", zero),
        ("receive", one),
        ("end_drain", one),
        ("send", one),
    ]


@virtual
async def test_the_fuse_has_the_next_slave_take_over(rig: Rig) -> None:
    rig.begin()
    zero, one = (link.ifindex for link in rig.links)
    rig.path.apply(decision(1, 0), 0)
    assert rig.fuse.armed == (one, b"%d 1" % zero)
    rig.path.apply(decision(0), 0)
    assert rig.fuse.armed is None, "nobody would take over"
    rig.path.apply(decision(0, 1), 0)
    assert rig.fuse.armed == (zero, b"%d 1" % one)
    rig.path.tap_changed(TAP, at_home=False)
    assert rig.fuse.armed is None, "the pump switches by itself"


@virtual
async def test_nobody_ready_leaves_all_to_the_pump(rig: Rig) -> None:
    rig.begin()
    rig.path.apply(decision(1, 0), 0)
    rig.wiring.said.clear()
    for name in ("eth0", "eth1"):
        rig.network.change(name, carrier=False)
    rig.path.apply(decision(), 0)
    assert rig.wiring.last("send", "receive") == [("send", 0), ("receive", 0)]


@virtual
async def test_the_pump_delivers_nothing_while_frames_are_redirected(rig: Rig) -> None:
    rig.begin()
    rig.path.apply(decision(1, 0), 0)
    assert rig.pump.decision.order == (1, 0)
    assert not rig.pump.decision.receive_sender
    assert rig.pump.decision.receive == frozenset()


@pytest.mark.parametrize(
    ("tap", "at_home", "reason"),
    [(TAP, False, AWAY), (Link(ifindex=90, name="tb0", mac="", master=7), True, GUESTS)],
)
@virtual
async def test_what_stands_in_the_way_has_frames_copied_until_it_is_gone(
    rig: Rig, tap: Link, at_home: bool, reason: str
) -> None:
    rig.begin()
    wanted = decision(1, 0)
    rig.path.apply(wanted, 0)
    rig.path.tap_changed(tap, at_home=at_home)
    assert (rig.path.name, rig.path.reason) == (COPY, reason)
    assert rig.pump.decision == wanted, "the pump delivers again"
    assert [change.reason for change in rig.changes] == [reason]
    rig.wiring.said.clear()
    rig.path.tap_changed(TAP, at_home=True)
    assert (rig.path.name, rig.path.reason) == (REDIRECT, "")
    assert rig.wiring.said[0] == ("open", TAP.ifindex)
    assert ("receive", rig.links[1].ifindex) in rig.wiring.said
    assert [change.datapath for change in rig.changes] == [COPY, REDIRECT]


@virtual
async def test_a_filter_that_is_refused_has_frames_copied(rig: Rig) -> None:
    rig.begin()
    rig.wiring.refuse = "receive"
    wanted = decision(1, 0)
    rig.path.apply(wanted, 0)
    assert rig.path.name is COPY
    assert rig.pump.decision == wanted
    rig.path.tap_changed(TAP, at_home=True)
    assert rig.path.name is COPY, "it would be refused again"


@virtual
async def test_a_slave_that_cannot_be_redirected_is_refused(rig: Rig) -> None:
    rig.path.open(TAP)
    rig.wiring.refuse = "add"
    with pytest.raises(TapbondError, match="add refused"):
        rig.path.attach(rig.links[0])
    assert rig.pump.ports == {}


@virtual
async def test_or_all_are_copied_while_it_is_there(rig: Rig) -> None:
    rig = Rig(rig.clock, patient=True)
    rig.path.open(TAP)
    rig.wiring.refuse = "add"
    port = rig.path.attach(rig.links[0])
    assert rig.path.name is COPY
    rig.wiring.refuse = ""
    await rig.path.detach(port)
    assert rig.path.name is REDIRECT


@virtual
async def test_a_tap_in_a_bridge_is_refused_at_the_start(rig: Rig) -> None:
    with pytest.raises(TapbondError, match="guests"):
        rig.path.open(Link(ifindex=90, name="tb0", mac="", master=7))
    assert rig.wiring.said == []


@virtual
async def test_counters_only_grow(rig: Rig) -> None:
    rig.begin()
    rig.path.apply(decision(1, 0), 0)
    rig.wiring.count(rig.links[1], tx_frames=10, rx_frames=7)
    assert rig.path.counters(1).tx_frames == 10
    rig.path.tap_changed(TAP, at_home=False)
    assert rig.path.total().tx_frames == 10
    rig.pump.count(1, tx_frames=5)
    rig.path.tap_changed(TAP, at_home=True)
    rig.wiring.count(rig.links[1], tx_frames=2)
    assert (rig.path.counters(1).tx_frames, rig.path.total().rx_frames) == (17, 7)
    await rig.path.detach(1)
    assert rig.path.total().tx_frames == 17
    await rig.path.close()
    assert rig.path.total().tx_frames == 17


@virtual
async def test_the_first_frames_are_seen_by_the_counters(rig: Rig) -> None:
    rig.begin()
    rig.path.apply(decision(1, 0), 0)
    await asyncio.sleep(0.005)
    assert rig.told(PumpEventKind.FIRST_TX) == []
    rig.wiring.count(rig.links[1], tx_frames=1)
    await asyncio.sleep(0.005)
    rig.wiring.count(rig.links[1], rx_frames=1)
    await asyncio.sleep(0.005)
    assert (rig.told(PumpEventKind.FIRST_TX), rig.told(PumpEventKind.FIRST_RX)) == ([1], [1])
    first_tx, first_rx = (event.when_ns for event in rig.events if event.serial == 0)
    assert first_tx < first_rx


@virtual
async def test_further_macs_are_announced(rig: Rig) -> None:
    rig.begin()
    rig.path.set_announcements("02:00:00:00:00:01", [b"own"])
    station = bytes.fromhex("525400000088")
    rig.path.hear(Filters(unicast=frozenset({station})))
    assert [frame for frame in rig.pump.announcements if station in frame] == rig.pump.announcements[1:]
    rig.path.hear(Filters())
    assert rig.pump.announcements == [b"own"]


def test_filters_that_cannot_be_read_have_not_grown() -> None:
    answers: Iterator[Counters | None] = iter([Counters(tx_frames=3), None, Counters(tx_frames=5), None])
    ledger = Ledger(lambda _port: next(answers))
    ledger.open(0)
    assert [ledger.now(0).tx_frames for _ in range(3)] == [3, 3, 5]
    ledger.close(0)
    assert ledger.total().tx_frames == 5


@pytest.mark.parametrize("options", [{"rx": "any"}, {"slave_netns": "web"}, {"isolation": "netns"}])
def test_what_only_the_copy_path_has(options: dict[str, str]) -> None:
    with pytest.raises(TapbondError, match=r"--datapath redirect: .* \(use --datapath copy"):
        Settings.of("tb0", {"standby": "eth0", "datapath": "redirect", **options})
    assert Settings.of("tb0", {"standby": "eth0", "datapath": "auto", **options}).copies_because()
    assert not Settings.of("tb0", {"standby": "eth0", "datapath": "redirect"}).copies_because()


def test_blocks_are_two_and_differ_by_failover() -> None:
    assert len({*blocks_of("tb0"), *blocks_of("tb1")}) == 4
    assert all(0 < block < 1 << 32 for block in blocks_of("tb0"))
