"""The selector over a fake pump and fake links, on a virtual clock."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tapbond.datapath import PumpEventKind
from tapbond.delays import LinkDelays
from tapbond.errors import NoSuchSlaveError
from tapbond.model import CarrierChanged, Detector, Event, Link, ReceiveMode, Role, Switchover
from tapbond.rundir import Lock
from tapbond.selector import Selector
from tapbond.slave import HOLD_FIRST_NS, Slave
from tapbond.switchover import RECORD_NS
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

MAC = "52:54:00:00:00:01"
MS = 1_000_000


class Stage:
    """A failover's selector with a standby eth0 (port 0) and a primary eth1 (port 1); listens to the links."""

    def __init__(self, tmp_path: Path, rx: ReceiveMode, updelay_ns: int) -> None:
        self.updelay_ns = updelay_ns
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock)
        self.pump = FakePump(self.clock, self.network)
        self.carriers: list[bool] = []
        self.events: list[Event] = []
        self.failures: list[str] = []
        self.switched: list[Slave | None] = []
        self.locks = tmp_path
        self.selector = Selector(
            "tb0",
            rx,
            self.pump,
            self.network.links,
            set_carrier=self.carriers.append,
            emit=self.events.append,
            failed=self.failures.append,
            clock=self.clock,
            switched=self.switched.append,
        )
        self.pump.start(self.selector)
        self.network.links.listen(self)
        self.standby = self.plug("eth0", Role.STANDBY)
        self.primary = self.plug("eth1", Role.PRIMARY)

    def plug(self, name: str, role: Role) -> Slave:
        link = self.network.add(name, MAC)
        slave = Slave(link, role, Lock(self.locks / name, "busy"), LinkDelays(self.updelay_ns))
        slave.port = self.pump.attach(link)
        self.selector.slaves.append(slave)
        return slave

    # What Failover does with what the links tell.

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        for slave in self.selector.slaves:
            if slave.link.ifindex == link.ifindex:
                if slave.name != link.name:
                    self.selector.switchovers.renamed(slave.name, link.name)
                self.selector.update(slave, link, detector, when_ns)

    def link_removed(self, link: Link, when_ns: int) -> None:
        for slave in tuple(self.selector.slaves):
            if slave.link.ifindex == link.ifindex:
                slave.gone = True
                self.selector.remove(slave, Detector.NETLINK, when_ns, "unplugged")

    def addresses_changed(self, ifindex: int) -> None:
        pass

    @property
    def active(self) -> str | None:
        return self.selector.active.name if self.selector.active else None

    def records(self) -> list[Switchover]:
        return [event for event in self.events if isinstance(event, Switchover)]

    def events_of_carrier(self) -> list[bool]:
        return [event.carrier for event in self.events if isinstance(event, CarrierChanged)]


Play = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Stage]:
    """Run a scene on a selector that has started and whose first record is complete."""

    def play(
        scene: Play, *, rx: ReceiveMode = ReceiveMode.ACTIVE, started: bool = True, updelay_ns: int = 0
    ) -> Stage:
        stage = Stage(tmp_path, rx, updelay_ns)

        async def main() -> None:
            if started:
                stage.selector.start()
                await settle()
                stage.pump.carry()
                await settle()
            await scene(stage)
            await settle()
            stage.selector.close()

        run(main(), stage.clock)
        return stage

    return play


async def settle() -> None:
    """Let everything that is due now happen."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_nothing_is_decided_before_the_start(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.decide(Detector.NETLINK, stage.clock())
        assert stage.pump.applied == []

    assert play(scene, started=False).events == []


def test_the_first_decision_takes_the_primary(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        assert stage.active == "eth1"
        assert stage.pump.sender() == 1
        assert len(stage.pump.applied) == 1
        assert stage.carriers == stage.events_of_carrier() == [True]

    (record,) = play(scene).records()
    assert (record.from_slave, record.to_slave, record.cause) == (None, "eth1", "first slave ready")
    assert record.detector is Detector.CONTROL
    assert record.first_tx_ns is not None
    assert record.first_rx_ns is not None


def test_a_decision_that_changes_nothing_is_not_applied(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(10):
            stage.selector.decide(Detector.NETLINK, stage.clock())
        stage.network.change("eth1", mtu=1400)
        assert len(stage.pump.applied) == 1

    play(scene)


@pytest.mark.parametrize(
    ("change", "cause"), [({"carrier": False}, "carrier lost"), ({"up": False, "carrier": False}, "set down")]
)
def test_a_link_that_goes_down_is_left_and_taken_again(
    play: Callable[..., Stage], change: dict[str, bool], cause: str
) -> None:
    async def scene(stage: Stage) -> None:
        stage.clock.advance(5 * MS)
        stage.network.change("eth1", **change)
        assert stage.active == "eth0"
        assert stage.pump.sender() == 0
        stage.pump.carry()
        await asyncio.sleep(0.2)
        stage.network.change("eth1", up=True, carrier=True)
        assert stage.active == "eth1"
        stage.pump.carry()
        await asyncio.sleep(0.2)

    stage = play(scene)
    _, away, back = stage.records()
    assert (away.from_slave, away.to_slave, away.cause, away.detector) == ("eth1", "eth0", cause, Detector.NETLINK)
    assert (back.from_slave, back.to_slave, back.cause) == ("eth0", "eth1", "primary ready")
    assert away.detected_ns <= away.decided_ns
    assert stage.events_of_carrier() == [True]


def test_a_standby_that_goes_down_changes_the_order_and_is_no_switchover(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth0", carrier=False)
        assert stage.pump.decision.order == (1,)
        stage.network.change("eth0", carrier=True)
        assert stage.pump.decision.order == (1, 0)

    assert len(play(scene).records()) == 1


def test_both_gone_and_back(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", carrier=False)
        stage.network.change("eth0", carrier=False)
        assert stage.active is None
        stage.pump.carry()
        stage.pump.carry()
        await settle()
        stage.network.change("eth0", carrier=True)
        assert stage.active == "eth0"

    stage = play(scene)
    assert stage.carriers == stage.events_of_carrier() == [True, False, True]
    records = stage.records()
    assert [record.to_slave for record in records] == ["eth1", "eth0", None, "eth0"]
    assert [record.dropped for record in records] == [0, 0, 2, 0]
    assert [record.serial for record in records] == [1, 2, 3, 4]


def test_an_unplugged_slave_is_called_so(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", up=False, carrier=False)  # the kernel says so first
        stage.network.delete("eth1")
        assert stage.active == "eth0"

    record = play(scene).records()[-1]
    assert (record.to_slave, record.cause) == ("eth0", "unplugged")


def test_a_slave_removed_by_hand(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.remove(stage.primary, Detector.CONTROL, stage.clock(), "removed")
        assert stage.active == "eth0"

    record = play(scene).records()[-1]
    assert (record.from_slave, record.to_slave, record.cause) == ("eth1", "eth0", "removed")


def test_a_slave_that_comes_later(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.delete("eth1")
        await settle()
        link = stage.network.add("eth1", MAC)
        slave = Slave(link, Role.PRIMARY, Lock(stage.locks / "again", "busy"))
        slave.port = stage.pump.attach(link)
        stage.selector.add(slave, link, stage.clock())
        assert stage.active == "eth1"

    assert play(scene).records()[-1].cause == "primary ready"


def test_retiring_is_one_decision(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        applied = len(stage.pump.applied)
        assert stage.selector.retire() == [stage.standby, stage.primary]
        assert stage.active is None
        assert len(stage.pump.applied) == applied + 1

    stage = play(scene)
    assert stage.records()[-1].cause == "failover destroyed"
    assert stage.carriers == [True, False]


def test_a_link_that_comes_back_is_preferred_when_it_has_settled(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", carrier=False)
        await asyncio.sleep(1)
        stage.network.change("eth1", carrier=True)
        back_ns = stage.clock()
        assert stage.pump.decision.order == (0, 1)
        await asyncio.sleep(0.099)
        assert stage.active == "eth0"
        await asyncio.sleep(0.002)
        assert stage.active == "eth1"
        stage.pump.carry()
        await asyncio.sleep(0.2)
        assert stage.records()[-1].detected_ns == back_ns

    record = play(scene, updelay_ns=100 * MS).records()[-1]
    assert (record.to_slave, record.cause, record.detector) == ("eth1", "primary ready", Detector.NETLINK)
    assert record.decided_ns - record.detected_ns >= 100 * MS


def test_a_link_that_has_not_settled_is_used_when_there_is_no_other(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", carrier=False)
        stage.network.change("eth0", carrier=False)
        assert stage.active is None
        stage.network.change("eth0", carrier=True)
        assert stage.active == "eth0"
        await asyncio.sleep(0.05)
        stage.network.change("eth1", carrier=True)
        assert stage.active == "eth0"
        await asyncio.sleep(0.101)
        assert stage.active == "eth1"

    records = play(scene, updelay_ns=100 * MS).records()
    assert [record.to_slave for record in records] == ["eth1", "eth0", None, "eth0", "eth1"]


def test_a_link_without_a_queue_is_sent_to_directly(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", qdisc="noqueue")
        assert stage.pump.direct[1]
        stage.network.change("eth1", qdisc="fq_codel")
        assert not stage.pump.direct[1]

    play(scene)


# By hand.


def test_a_requested_slave_sends_while_it_is_ready(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        assert (stage.active, stage.selector.requested) == ("eth0", stage.standby)
        stage.network.change("eth0", carrier=False)
        assert (stage.active, stage.selector.requested) == ("eth1", None)
        stage.network.change("eth0", carrier=True)
        assert stage.active == "eth1"

    stage = play(scene)
    assert [record.cause for record in stage.records()][1:] == ["switched by hand", "carrier lost"]
    assert stage.records()[1].detector is Detector.CONTROL


def test_a_request_is_given_up_by_hand(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        stage.selector.request(None)
        assert (stage.active, stage.selector.requested) == ("eth1", None)

    play(scene)


def test_a_request_for_a_slave_that_is_not_ready_is_refused(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth0", carrier=False)
        with pytest.raises(NoSuchSlaveError, match=r"^eth0: not ready \(carrier lost\)$"):
            stage.selector.request(stage.standby)
        assert stage.active == "eth1"

    play(scene)


def test_a_request_for_a_slave_that_was_removed_is_forgotten(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        stage.network.delete("eth0")
        assert stage.selector.requested is None
        assert stage.active == "eth1"

    play(scene)


# What the pump sees.


def test_a_fault_while_the_link_says_fine_is_forgiven_once(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.pump.fault(1, errno.ENETDOWN)
        assert stage.pump.sender() == 0
        await settle()
        assert stage.pump.sender() == 1
        assert stage.primary.why_not_ready(stage.clock()) == ""
        assert stage.pump.applied[-1][1] > 0

    stage = play(scene)
    assert [record.to_slave for record in stage.records()] == ["eth1", "eth0", "eth1"]
    assert stage.records()[1].cause.startswith("send failed: ENETDOWN")
    assert stage.records()[1].detector is Detector.PUMP
    assert stage.records()[2].cause == "send works again"


def test_a_second_fault_within_a_second_holds_the_slave(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(2):
            stage.pump.fault(1, errno.ENETDOWN)
            await settle()
        held_ns = stage.clock()
        assert (stage.active, stage.pump.sender()) == ("eth0", 0)
        assert stage.primary.why_not_ready(stage.clock()) == "send errors"
        stage.network.change("eth0", mtu=1400)
        assert stage.active == "eth0"
        await asyncio.sleep(HOLD_FIRST_NS / 1e9 - 0.001)
        assert stage.active == "eth0"
        await asyncio.sleep(0.002)
        assert (stage.active, stage.pump.sender()) == ("eth1", 1)
        assert stage.clock() - held_ns < HOLD_FIRST_NS + 2 * MS

    play(scene)


def test_a_fault_of_a_link_whose_carrier_is_gone_corrects_what_is_known(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.silent = True  # linkwatch holds the event back
        stage.network.change("eth1", carrier=False)
        stage.clock.advance(3 * MS)
        stage.pump.fault(1, errno.ENOBUFS)
        await settle()
        assert stage.active == "eth0"
        assert not stage.network.links.by_index[stage.primary.link.ifindex].carrier
        assert stage.primary.why_not_ready(stage.clock()) == "carrier lost"
        stage.network.tell()
        await settle()

    stage = play(scene)
    first, away = stage.records()
    assert (away.to_slave, away.detector) == ("eth0", Detector.PUMP)
    assert away.detected_ns > first.decided_ns


def test_a_fault_of_a_link_that_has_gone_says_so_before_netlink_does(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.silent = True
        stage.network.delete("eth1")
        stage.pump.fault(1, errno.ENXIO)
        await settle()
        assert stage.primary.gone
        assert stage.active == "eth0"
        stage.network.tell()
        await settle()
        assert stage.selector.slaves == [stage.standby]

    record = play(scene).records()[-1]
    assert (record.cause, record.detector) == ("unplugged", Detector.PUMP)


def test_a_fault_that_netlink_told_of_later_keeps_the_pumps_time(play: Callable[..., Stage]) -> None:
    """The pump failed first, but its event is read after netlink's."""

    async def scene(stage: Stage) -> None:
        stage.pump.fault(1, errno.ENETDOWN)
        stage.clock.advance(MS)
        stage.network.change("eth1", up=False, carrier=False)
        await settle()

    record = play(scene).records()[-1]
    assert record.detector is Detector.PUMP
    assert record.decided_ns - record.detected_ns == MS
    assert record.to_slave == "eth0"


def test_a_fault_whose_news_still_waits_at_netlink_keeps_the_pumps_time(play: Callable[..., Stage]) -> None:
    """Looking at the device takes netlink's queue in first, and that leads to the switchover."""

    async def scene(stage: Stage) -> None:
        stage.pump.fault(1, errno.ENETDOWN)
        stage.clock.advance(MS)
        stage.network.silent = True
        stage.network.change("eth1", up=False, carrier=False)
        stage.network.silent = False
        await settle()

    record = play(scene).records()[-1]
    assert (record.detector, record.cause) == (Detector.PUMP, "set down")
    assert record.decided_ns - record.detected_ns == MS


def test_a_fault_on_a_slave_that_does_not_send_is_settled(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.pump.fault(0, errno.ENETDOWN)
        await settle()
        assert not stage.pump.ports[0].suspended
        assert stage.active == "eth1"

    assert len(play(scene).records()) == 1


def test_a_fault_of_a_slave_that_is_gone_already(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.pump.fault(1, errno.ENXIO)
        stage.selector.remove(stage.primary, Detector.NETLINK, stage.clock(), "unplugged")
        await settle()
        assert stage.active == "eth0"

    play(scene)


def test_all_slaves_fail(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(2):
            stage.pump.fault(1, errno.EIO)
            stage.pump.fault(0, errno.EIO)
            await settle()
        assert stage.active is None
        assert stage.pump.sender() is None
        await asyncio.sleep(HOLD_FIRST_NS / 1e9 + 0.001)
        assert stage.active == "eth1"

    stage = play(scene)
    assert stage.carriers == [True, False, True]


def test_a_tap_that_is_gone_is_reported(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.pump.tap_fault(errno.EBADFD)

    (reason,) = play(scene).failures
    assert reason.startswith("EBADFD")


# Records.


def test_a_record_is_complete_when_frames_came_and_the_drain_is_over(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        stage.pump.carry()
        await settle()
        assert len(stage.records()) == 1
        switched_ns = stage.clock()
        while len(stage.records()) == 1:
            await asyncio.sleep(0.001)
        assert stage.clock() - switched_ns < 60 * MS

    record = play(scene).records()[-1]
    assert record.first_tx_ns is not None
    assert record.first_rx_ns is not None


def test_a_record_without_frames_is_complete_after_its_deadline(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        await asyncio.sleep(RECORD_NS / 1e9 - 0.01)
        assert len(stage.records()) == 1
        await asyncio.sleep(0.02)
        assert len(stage.records()) == 2

    record = play(scene).records()[-1]
    assert (record.first_tx_ns, record.first_rx_ns) == (None, None)


def test_closing_completes_the_open_record_and_leaves_no_timer(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        stage.selector.close()
        assert len(stage.records()) == 2
        before = len(stage.events)
        await asyncio.sleep(10)
        assert len(stage.events) == before

    play(scene)


def test_a_rename_is_no_switchover(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", name="lan1")
        assert stage.active == "lan1"

    assert len(play(scene).records()) == 1


def test_a_thousand_flaps_leave_records_that_follow_each_other(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        for n in range(1000):
            stage.network.change("eth1", carrier=bool(n % 2))
            if n % 7 == 0:
                await asyncio.sleep(0.01)

    records = play(scene).records()
    assert [record.serial for record in records] == list(range(1, 1002))
    for earlier, later in pairwise(records):
        assert later.from_slave == earlier.to_slave
        assert later.decided_ns >= earlier.decided_ns


def test_announcements_go_to_the_new_sender_once(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.selector.request(stage.standby)
        stage.network.change("eth1", carrier=False)
        stage.network.change("eth1", carrier=True)
        stage.pump.fault(0, errno.ENETDOWN)
        await settle()

    stage = play(scene)
    assert stage.switched[:2] == [stage.primary, stage.standby]


def test_rx_kernel_registers_and_receives_on_the_primary_only(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", carrier=False)
        assert stage.pump.sender() == 0
        assert stage.pump.decision.receive == {1}
        assert not stage.pump.decision.receive_sender

    play(scene, rx=ReceiveMode.KERNEL)


def test_a_switch_of_the_pump_is_recorded_though_nobody_decided(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.pump.tell(PumpEventKind.SWITCHED, 0, errno.ENETDOWN)
        await settle()
        assert stage.selector.switchovers.active == "eth0"

    play(scene)
