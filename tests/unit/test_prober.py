"""The prober over fake ports, a real selector and a fake pump, on a virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tapbond.delays import LinkDelays
from tapbond.errors import NoSuchSlaveError, TapbondError
from tapbond.model import Detector, Event, Link, ReceiveMode, Role, Switchover
from tapbond.probe.mac import packed
from tapbond.probe.prober import Prober
from tapbond.rundir import Lock
from tapbond.selector import Selector
from tapbond.settings import Probing
from tapbond.slave import PROBES_LOST, Slave
from tapbond.testing import FakeNetwork, FakePump, FakeSegment, VirtualClock, run

MAC = "52:54:00:00:00:01"
MS = 1_000_000
ROUND_S = 0.020
V4, V6 = "10.0.0.2", "fd00::2"


class Stage:
    """A standby eth0 and a primary eth1, both probed every 20 ms; a target that answers."""

    def __init__(self, tmp_path: Path, options: dict[str, Any]) -> None:
        self.tmp_path = tmp_path
        self.mac = MAC
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock)
        self.pump = FakePump(self.clock, self.network)
        self.segment = FakeSegment(self.clock, {V4, V6})
        self.events: list[Event] = []
        self.carriers: list[bool] = []
        self.selector = Selector(
            "tb0",
            ReceiveMode.ACTIVE,
            self.pump,
            self.network.links,
            set_carrier=self.carriers.append,
            emit=self.events.append,
            failed=lambda _reason: None,
            clock=self.clock,
        )
        self.pump.start(self.selector)
        self.network.links.listen(self)
        self.eth0 = self.plug("eth0", Role.STANDBY)
        self.eth1 = self.plug("eth1", Role.PRIMARY)
        self.opener: Callable[..., Any] = self.segment.open_port
        self.prober = Prober(
            "tb0",
            self.selector,
            lambda: self.mac,
            Probing(**{"targets": (V4,), "interval_ns": 20 * MS, "missed_max": 2, **options}),
            self.clock,
            self.open_port,
        )

    def open_port(self, link: Link, mac: bytes) -> Any:
        return self.opener(link, mac)

    def plug(self, name: str, role: Role, mac: str = MAC) -> Slave:
        link = self.network.add(name, mac)
        slave = Slave(link, role, Lock(self.tmp_path / name, "busy"), LinkDelays(50 * MS))
        slave.port = self.pump.attach(link)
        self.selector.add(slave, link, self.clock())
        return slave

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        for slave in self.selector.slaves:
            if slave.link.ifindex == link.ifindex:
                self.selector.update(slave, link, detector, when_ns)

    def link_removed(self, link: Link, when_ns: int) -> None:
        for slave in tuple(self.selector.slaves):
            if slave.link.ifindex == link.ifindex:
                slave.vanish()
                self.selector.remove(slave, Detector.NETLINK, when_ns, "unplugged")

    def addresses_changed(self, ifindex: int) -> None:
        pass

    @property
    def active(self) -> str | None:
        return self.selector.active.name if self.selector.active else None

    def switches(self) -> list[tuple[str | None, str, Detector]]:
        """Return the slave, the cause and the detector of each switchover after the first."""
        self.selector.close()
        found = [event for event in self.events if isinstance(event, Switchover)]
        return [(event.to_slave, event.cause, event.detector) for event in found[1:]]

    def sources(self, name: str) -> set[str]:
        """Return the MACs that a link was probed from."""
        return {frame[6:12].hex(":") for link, frame in self.segment.sent if link == name}

    async def rounds(self, count: float) -> None:
        await asyncio.sleep(count * ROUND_S)


Play = Callable[..., Stage]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def play(scene: Callable[[Stage], Awaitable[None]], **options: object) -> Stage:
        stage = Stage(tmp_path, options)

        async def main() -> None:
            stage.selector.start()
            stage.prober.start()
            await asyncio.sleep(ROUND_S / 2)
            await scene(stage)
            stage.prober.stop()
            stage.selector.close()

        run(main(), stage.clock)
        return stage

    return play


def test_a_silent_path_is_left_in_three_rounds_and_taken_again(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(10)
        assert stage.active == "eth1"
        stage.segment.silent = {"eth1"}
        silent_ns = stage.clock()
        await stage.rounds(1)
        assert stage.active == "eth1"
        await stage.rounds(2)
        assert stage.active == "eth0"
        assert stage.eth1.why_not_ready(stage.clock()) == PROBES_LOST
        await stage.rounds(50)
        stage.segment.silent = set()
        await stage.rounds(3)
        assert stage.active == "eth0"
        await stage.rounds(5)
        assert stage.active == "eth1"
        _, away = [event for event in stage.events if isinstance(event, Switchover)]  # the third is still open
        assert away.detected_ns - silent_ns <= 60 * MS

    stage = play(scene)
    assert stage.switches() == [("eth0", PROBES_LOST, Detector.PROBE), ("eth1", "primary ready", Detector.PROBE)]
    assert stage.carriers == [True]


def test_a_standby_that_falls_silent_is_known_before_it_is_needed(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(3)
        stage.segment.silent = {"eth0"}
        await stage.rounds(3)
        assert stage.eth0.answered
        await stage.rounds(1)
        assert not stage.eth0.answered
        assert (stage.active, stage.eth1.answered) == ("eth1", True)
        assert stage.eth0.delays.losses == 1

    assert play(scene).switches() == []


@pytest.mark.parametrize("missed_max", [2, 3, 5])
def test_a_target_that_dies_switches_nothing(play: Play, missed_max: int) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        for _ in range(3):
            stage.segment.hosts = set()
            await stage.rounds(100)
            assert (stage.eth0.answered, stage.eth1.answered, stage.active) == (False, False, "eth1")
            stage.segment.hosts = {V4}
            await stage.rounds(100)
            assert (stage.eth0.answered, stage.eth1.answered) == (True, True)

    stage = play(scene, missed_max=missed_max)
    assert stage.switches() == []
    assert stage.carriers == [True]


@pytest.mark.parametrize("rounds", range(1, 9))
def test_a_target_that_is_away_for_a_moment_switches_nothing(play: Play, rounds: int) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        for _ in range(5):
            stage.segment.hosts = set()
            await stage.rounds(rounds)
            stage.segment.hosts = {V4}
            await stage.rounds(rounds)

    assert play(scene).switches() == []


def test_a_target_that_dies_brings_no_dead_path_back(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.silent = {"eth1"}
        await stage.rounds(5)
        stage.segment.hosts = set()
        await stage.rounds(50)
        assert stage.active == "eth0"

    assert play(scene).switches() == [("eth0", PROBES_LOST, Detector.PROBE)]


def test_where_no_path_answers_a_switch_by_hand_is_done(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.hosts = set()
        await stage.rounds(10)
        stage.selector.request(stage.eth0)
        await stage.rounds(10)
        assert stage.active == "eth0"
        stage.segment.hosts = {V4}
        await stage.rounds(10)
        assert stage.active == "eth0"

    play(scene)


def test_a_target_that_is_absent_at_first_counts_once_it_answers(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.segment.hosts = set()
        await stage.rounds(500)
        assert (stage.eth0.answered, stage.eth1.answered, stage.active) == (True, True, "eth1")
        stage.segment.hosts = {V4}
        await stage.rounds(5)
        stage.segment.silent = {"eth1"}
        await stage.rounds(3)
        assert stage.active == "eth0"

    play(scene)


def test_only_the_active_slave_probes_with_the_failovers_mac(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        (own,) = stage.sources("eth0")
        assert stage.sources("eth1") == {MAC}
        assert own not in (MAC, "")
        assert packed(own) == next(port.mac for port in stage.segment.ports if port.link.name == "eth0")
        stage.segment.sent.clear()
        stage.selector.request(stage.eth0)
        await stage.rounds(5)
        assert stage.sources("eth0") == {MAC}
        assert MAC not in stage.sources("eth1") | {own}
        assert stage.eth0.answered
        assert stage.eth1.answered

    play(scene)


@pytest.mark.parametrize("missed_max", [1, 2])
def test_no_switch_makes_a_probe_missed(play: Play, missed_max: int) -> None:
    async def scene(stage: Stage) -> None:
        for number in range(40):
            stage.selector.request((stage.eth0, stage.eth1)[number % 2])
            await asyncio.sleep(0.007 + 0.011 * (number % 5))
            assert stage.eth0.path.answered
            assert stage.eth1.path.answered
            for slave in (stage.eth0, stage.eth1):
                assert slave.path.status()[0].missed == 0

    play(scene, missed_max=missed_max)


def test_a_link_with_a_mac_of_its_own_probes_with_that(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.plug("eth2", Role.BACKUP, "52:54:00:00:00:09")
        stage.prober.follow()
        await stage.rounds(3)
        assert stage.sources("eth2") == {"52:54:00:00:00:09"}
        stage.mac = "52:54:00:00:00:07"
        stage.segment.sent.clear()
        await stage.rounds(3)
        assert stage.sources("eth1") == {"52:54:00:00:00:07"}

    play(scene)


def test_answers_to_another_mac_do_not_count(play: Play) -> None:
    """A switch that floods shows the answer to the active slave's probe on every path."""

    async def scene(stage: Stage) -> None:
        await stage.rounds(3)
        port = next(port for port in stage.segment.ports if port.link.name == "eth0")
        port.send = lambda _frame: stage.clock()  # nothing leaves eth0, which hears all
        stage.segment.flooded = True
        await stage.rounds(5)
        assert not stage.eth0.answered

    play(scene)


def test_answers_that_wait_are_taken_in_before_anything_is_missed(play: Play) -> None:
    """A loop that stands still for a second, again and again."""

    async def scene(stage: Stage) -> None:
        for _ in range(20):
            await stage.rounds(2)
            stage.clock.advance(1_000 * MS)
        assert stage.eth1.path.status()[0].missed == 0

    assert play(scene, missed_max=1).switches() == []


def test_a_probe_is_given_its_time_after_a_late_round(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(2)
        stage.segment.silent = {"eth1"}
        for _ in range(100):
            stage.prober._probe(stage.clock())
        assert stage.eth1.answered
        await stage.rounds(3)
        assert not stage.eth1.answered

    play(scene)


def test_a_link_that_is_down_is_not_probed_and_begins_anew(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.silent = {"eth1"}
        await stage.rounds(5)
        assert not stage.eth1.answered
        stage.network.change("eth1", carrier=False)
        stage.segment.sent.clear()
        await stage.rounds(5)
        assert stage.sources("eth1") == set()
        assert stage.eth1.answered
        stage.network.change("eth1", carrier=True)
        await stage.rounds(50)
        assert stage.eth1.answered  # the grace
        await stage.rounds(60)
        assert not stage.eth1.answered

    play(scene)


def test_a_link_that_flaps_between_two_rounds_begins_anew(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.silent = {"eth0"}
        await stage.rounds(10)
        assert not stage.eth0.answered
        stage.network.change("eth0", carrier=False)
        stage.network.change("eth0", carrier=True)
        await stage.rounds(1)
        assert stage.eth0.answered

    play(scene)


def test_what_cannot_be_sent_is_not_missed(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.failing = {"eth1"}
        await stage.rounds(50)
        assert stage.eth1.answered

    assert play(scene).switches() == []


def test_slaves_that_come_and_go_are_followed(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        eth2 = stage.plug("eth2", Role.BACKUP)
        stage.prober.follow()
        stage.prober.follow()
        await stage.rounds(3)
        assert eth2.path is not None
        assert [probe.answered for probe in eth2.path.status()] == [True]
        assert len({port.mac for port in stage.segment.ports}) == 3
        stage.network.delete("eth2")
        await stage.rounds(1)
        stage.prober.follow()
        assert sorted(port.link.name for port in stage.segment.ports) == ["eth0", "eth1"]
        assert eth2.path is None

    assert play(scene).segment.ports == []


def test_a_slave_that_cannot_be_probed_is_trusted(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        def refuse(link: Link, _mac: bytes) -> None:
            raise TapbondError(f"{link.name}: no")

        stage.opener = refuse
        eth2 = stage.plug("eth2", Role.BACKUP)
        stage.prober.follow()
        await stage.rounds(3)
        assert (eth2.answered, eth2.path) == (True, None)

    play(scene)


def test_both_kinds_are_asked_and_both_must_answer(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        assert [probe.target for probe in stage.eth1.path.status()] == [V4, V6]
        stage.segment.hosts = {V4}
        await stage.rounds(5)
        assert not stage.eth1.path.answered

    play(scene, targets=(V4, V6, V4))


def test_one_kind_is_enough_when_asked_for(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.hosts = {V4}
        await stage.rounds(5)
        assert stage.eth1.path.answered

    play(scene, targets=(V4, V6), any_watcher=True)


def test_without_targets_nothing_is_opened(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.prober.follow()
        assert stage.segment.ports == []

    assert play(scene, targets=()).segment.sent == []


def test_after_the_stop_nothing_is_asked(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.prober.stop()
        stage.prober.stop()
        stage.prober.follow()
        stage.segment.sent.clear()
        await stage.rounds(5)
        assert stage.segment.sent == []

    play(scene)


def test_an_error_ends_no_probing(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await stage.rounds(2)
        port = stage.segment.ports[0]
        receive, port.receive = port.receive, lambda: 1 / 0
        await stage.rounds(2)
        port.receive = receive
        stage.segment.silent = {"eth1"}
        await stage.rounds(4)
        assert stage.active == "eth0"

    play(scene)


def test_a_path_that_flaps_is_taken_later_each_time(play: Play) -> None:
    """The hold-down is the link's: a path that is lost counts as one."""

    async def scene(stage: Stage) -> None:
        stage.eth1.delays = LinkDelays(0, 0, 1_000 * MS)
        away = []
        for _ in range(3):
            await stage.rounds(5)
            stage.segment.silent = {"eth1"}
            await stage.rounds(5)
            assert stage.active == "eth0"
            stage.segment.silent = set()
            begin_ns = stage.clock()
            while stage.active != "eth1":
                await stage.rounds(1)
            away.append(round((stage.clock() - begin_ns) / 1e9))
        assert away == [1, 2, 4]

    play(scene)


def test_the_downdelay_waits_for_no_path(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.eth1.delays = LinkDelays(50 * MS, 10_000 * MS)
        await stage.rounds(5)
        stage.segment.silent = {"eth1"}
        await stage.rounds(3)
        assert stage.active == "eth0"
        assert stage.eth1.facts().tolerated_until_ns == 0
        stage.segment.silent = set()
        await stage.rounds(4)
        assert stage.active == "eth0"  # it settles
        await stage.rounds(3)
        assert stage.active == "eth1"

    play(scene)


def test_a_silent_slave_is_not_taken_by_hand_while_another_answers(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        stage.segment.silent = {"eth0"}
        await stage.rounds(5)
        with pytest.raises(NoSuchSlaveError, match=f"eth0: not ready .{PROBES_LOST}"):
            stage.selector.request(stage.eth0)

    play(scene)


def test_the_log_says_what_a_mac_that_is_never_answered_may_mean(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(stage: Stage) -> None:
        stage.segment.silent = {"eth0"}
        await stage.rounds(20)

    play(scene, grace_ns=0)
    assert "port security" in capsys.readouterr().out


@pytest.mark.parametrize("targets", [(V4,), (V4, V6)], ids=["the same target", "another one too"])
def test_a_path_that_is_distrusted_stays_so_when_the_probes_change(play: Play, targets: tuple[str, ...]) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(10)
        stage.segment.silent = {"eth1"}
        await stage.rounds(5)
        assert stage.active == "eth0"
        stage.prober.change(Probing(targets=targets, interval_ns=20 * MS, missed_max=4, any_watcher=True))
        for _ in range(40):
            await stage.rounds(1)
            assert stage.active == "eth0"
        assert len(stage.segment.ports) == 2
        stage.segment.silent = set()
        await stage.rounds(20)
        assert stage.active == "eth1"

    assert [slave for slave, _, _ in play(scene).switches()] == ["eth0", "eth1"]


def test_probes_that_change_again_and_again_distrust_nobody(play: Play) -> None:
    """What was asked for just before a change is not waited for."""

    async def scene(stage: Stage) -> None:
        await stage.rounds(10)
        for number in range(20):
            stage.prober.change(Probing(targets=(V4, V6)[: 1 + number % 2], interval_ns=20 * MS, missed_max=1))
            await stage.rounds(1.3)
            assert stage.active == "eth1"

    assert play(scene).switches() == []


def test_probes_begin_and_end_while_it_runs(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(5)
        assert stage.segment.ports == []
        stage.prober.change(Probing(targets=(V4,), interval_ns=20 * MS))
        await stage.rounds(10)
        stage.segment.silent = {"eth1"}
        await stage.rounds(6)
        assert stage.active == "eth0"
        with pytest.raises(TapbondError):
            stage.prober.change(Probing(targets=("224.0.0.1",)))
        assert len(stage.segment.ports) == 2
        stage.prober.change(Probing())
        await stage.rounds(5)
        assert (stage.active, stage.segment.ports) == ("eth1", [])

    play(scene, targets=())
