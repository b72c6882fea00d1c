"""Links come, are registered or refused, go, and come back: over a fake network and a fake pump."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from world import Registering

from tapbond.errors import BusyError, NoSuchSlaveError, RefusedError, TapbondError
from tapbond.isolation import BridgeIsolation
from tapbond.journal import Journal
from tapbond.membership import Membership
from tapbond.model import Event, Link, ReceiveMode, Role, SlaveRefused, SlaveRegistered, SlaveReleased
from tapbond.registrar import Registrar
from tapbond.registry import Registry
from tapbond.rundir import RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
DRAIN_S = 0.05


class Stage(Registering):
    """A failover tb0 without its TAP: eth0 is the named standby, whatever has the MAC the primary."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock)
        self.links = self.network.links
        self.pump = FakePump(self.clock, self.network)
        self.events: list[Event] = []
        self.run_dir = RunDir(tmp_path).make()
        self.journal_path = self.run_dir.journal("tb0")
        self.registry = Registry("tb0", MAC, "eth0", None)
        self.selector = Selector(
            "tb0",
            ReceiveMode.ACTIVE,
            self.pump,
            self.links,
            set_carrier=lambda _on: None,
            emit=self.events.append,
            failed=lambda _reason: None,
            clock=self.clock,
        )
        self.pump.start(self.selector)
        self.isolation = BridgeIsolation("tb0", self.network.rtnetlink)
        self.members = Membership(
            self.registry,
            Registrar(self.network.rtnetlink, self.isolation, self.pump, Journal(self.journal_path)),
            self.selector,
            self.links,
            self.run_dir,
            settings=Settings(name="tb0", standby="eth0", drain_ns=round(DRAIN_S * 1e9), updelay_ns=0),
            isolation="bridge",
            emit=self.events.append,
            clock=self.clock,
        )
        self.members.up = True

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


Scene = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], Stage]:
    """Run a scene on a failover that has its standby."""

    def play(scene: Scene) -> Stage:
        stage = Stage(tmp_path)

        async def main() -> None:
            await stage.isolation.open()
            stage.links.listen(stage)
            stage.network.add("eth0", MAC, mtu=1400)
            stage.selector.start()
            await settle(stage)
            assert stage.slaves == {"eth0": Role.STANDBY}
            await scene(stage)
            await stage.members.close()
            stage.selector.close()
            assert stage.pump.ports == {}
            assert not stage.journal_path.exists()

        run(main(), stage.clock)
        return stage

    return play


async def settle(stage: Stage) -> None:
    """Let the registrations and releases under way come to their end."""
    for _ in range(5):
        await asyncio.sleep(0)
    while stage.members._tasks:
        await asyncio.wait(stage.members._tasks)


def test_a_link_with_the_mac_becomes_the_primary(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await settle(stage)
        assert stage.slaves == {"eth0": Role.STANDBY, "eth1": Role.PRIMARY}
        assert stage.selector.active is not None
        assert stage.selector.active.name == "eth1"
        assert stage.network.device("eth1").mtu == 1500

    assert [(event.slave, event.role) for event in play(scene).told(SlaveRegistered)] == [
        ("eth0", Role.STANDBY),
        ("eth1", Role.PRIMARY),
    ]


def test_a_link_that_gets_the_mac_later_becomes_the_primary(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", OTHER)
        await settle(stage)
        assert "eth1" not in stage.slaves
        stage.network.change("eth1", mac=MAC)
        await settle(stage)
        assert stage.slaves["eth1"] is Role.PRIMARY

    play(scene)


def test_a_link_of_nobodys_concern_is_left_alone(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        requests = len(stage.network.rtnetlink.requests)
        stage.network.add("eth7", OTHER)
        stage.network.add("vlan7", MAC, kind="vlan")
        await settle(stage)
        assert len(stage.network.rtnetlink.requests) == requests

    assert play(scene).told(SlaveRefused) == []


def test_unplugged_and_plugged_in_again_any_number_of_times(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        for n in range(20):
            stage.network.add(f"eth{n + 1}", MAC)
            await settle(stage)
            assert stage.slaves[f"eth{n + 1}"] is Role.PRIMARY
            stage.network.delete(f"eth{n + 1}")
            assert stage.slaves == {"eth0": Role.STANDBY}
            await settle(stage)
            assert len(stage.pump.ports) == 1

    assert {event.reason for event in play(scene).told(SlaveReleased)} == {"unplugged", "failover destroyed"}


def test_unplugged_while_it_is_registered(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await asyncio.sleep(0)
        stage.network.delete("eth1")
        await settle(stage)
        assert stage.slaves == {"eth0": Role.STANDBY}
        stage.network.add("eth1", MAC)
        await settle(stage)
        assert stage.slaves["eth1"] is Role.PRIMARY

    play(scene)


def test_a_rename_keeps_the_slave(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await settle(stage)
        stage.network.change("eth1", name="lan1")
        await settle(stage)
        assert stage.slaves == {"eth0": Role.STANDBY, "lan1": Role.PRIMARY}
        assert stage.members.slave("lan1").name == "lan1"

    play(scene)


def test_a_refusal_is_said_once_until_something_changes(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("br0", OTHER, kind="bridge")
        bridge = stage.network.device("br0").ifindex
        stage.network.add("eth1", MAC, master=bridge)
        for mtu in range(1400, 1410):
            stage.network.change("eth1", mtu=mtu)
            await settle(stage)
        (refused,) = stage.told(SlaveRefused)
        assert refused.reason == "already a port of br0 (free it: ip link set eth1 nomaster)"
        stage.network.change("eth1", master=0)
        await settle(stage)
        assert stage.slaves["eth1"] is Role.PRIMARY

    play(scene)


def test_a_taken_slot_is_refused_and_the_link_left_as_it_was(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await settle(stage)
        free = stage.network.add("eth2", MAC, mtu=1400)
        await settle(stage)
        assert stage.network.device("eth2") == free

    (refused,) = play(scene).told(SlaveRefused)
    assert refused.link == "eth2"
    assert refused.reason == (
        "attempting to register as primary when eth1 is already present"
        " (tapbond add tb0 eth2 --prio N takes it as a backup)"
    )


def test_a_link_of_another_failover_is_refused(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.silent = True
        link = stage.network.add("eth1", MAC)
        lock = stage.run_dir.lock_link(link.ifindex, "eth1", "tb9")
        stage.network.tell()
        await settle(stage)
        assert "eth1" not in stage.slaves
        with pytest.raises(BusyError, match=r"^eth1: already a slave of tb9$"):
            await stage.members.register(link.ifindex, Role.PRIMARY)
        lock.release()
        await stage.members.register(link.ifindex, Role.PRIMARY)

    assert [event.link for event in play(scene).told(SlaveRefused)] == ["eth1"]


def test_a_slave_removed_by_hand_is_not_taken_again(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        before = stage.network.add("eth1", MAC, mtu=1400)
        await settle(stage)
        await stage.members.remove(stage.members.slave("eth1"), "removed")
        assert stage.network.device("eth1") == before
        stage.network.change("eth1", carrier=False)
        stage.network.change("eth1", carrier=True)
        await settle(stage)
        assert stage.slaves == {"eth0": Role.STANDBY}
        stage.members.welcome(before.ifindex)
        stage.network.change("eth1", carrier=False)
        await settle(stage)
        assert stage.slaves["eth1"] is Role.PRIMARY

    play(scene)


def test_a_slave_removed_twice_at_once_is_released_once(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await settle(stage)
        slave = stage.members.slave("eth1")
        await asyncio.gather(*(stage.members.remove(slave, "removed") for _ in range(3)))
        assert len(stage.told(SlaveReleased)) == 1

    play(scene)


def test_a_slave_unplugged_while_it_is_removed(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await settle(stage)
        removing = asyncio.create_task(stage.members.remove(stage.members.slave("eth1"), "removed"))
        await asyncio.sleep(DRAIN_S / 2)
        stage.network.delete("eth1")
        await removing
        assert len(stage.told(SlaveReleased)) == 1

    play(scene)


def test_a_removal_that_is_cancelled_still_gives_the_link_back(play: Callable[[Scene], Stage]) -> None:
    """As when the failover is stopped while a client waits for the answer to ``tapbond remove``."""

    async def scene(stage: Stage) -> None:
        before = stage.network.add("eth1", MAC, mtu=1400)
        await settle(stage)
        removing = asyncio.create_task(stage.members.remove(stage.members.slave("eth1"), "removed"))
        await asyncio.sleep(DRAIN_S / 2)
        removing.cancel()
        await asyncio.wait([removing])
        await stage.members.close()
        assert stage.network.device("eth1") == before

    play(scene)


def test_a_step_that_fails_is_refused_and_tried_again_when_something_changes(
    play: Callable[[Scene], Stage],
) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.rtnetlink.failures["set_mtu"] = [TapbondError("eth1: cannot set MTU 1500: Invalid argument")]
        before = stage.network.add("eth1", MAC, mtu=1400)
        await settle(stage)
        assert stage.network.device("eth1") == before
        (refused,) = stage.told(SlaveRefused)
        assert refused.reason == "cannot set MTU 1500: Invalid argument"

    play(scene)


def test_registering_by_hand_says_why_not(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        link = stage.network.add("eth1", OTHER)
        with pytest.raises(RefusedError, match=f"its MAC {OTHER} is not tb0's {MAC}"):
            await stage.members.register(link.ifindex, Role.PRIMARY)

    assert play(scene).told(SlaveRefused) == []


def test_a_name_that_is_no_slave(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(NoSuchSlaveError, match=r"^eth7: not a slave of tb0 \(its slaves: eth0\)$"):
            stage.members.slave("eth7")

    play(scene)


def test_closing_releases_the_primary_first(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC)
        await settle(stage)

    stage = play(scene)
    assert [event.slave for event in stage.told(SlaveReleased)] == ["eth1", "eth0"]
    assert stage.network.device("eth0").mtu == 1400


def test_closing_while_a_link_is_registered_gives_it_back(play: Callable[[Scene], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.add("eth1", MAC, mtu=1400)
        await asyncio.sleep(0)

    stage = play(scene)
    assert stage.network.device("eth1").mtu == 1400


def test_a_link_that_waits_for_its_turn_while_all_is_given_back_is_left_alone(
    play: Callable[[Scene], Stage],
) -> None:
    waiting: list[asyncio.Task[None]] = []

    async def scene(stage: Stage) -> None:
        link = stage.network.add("eth1", "52:54:00:00:00:77", mtu=1400)
        await stage.members.one_at_a_time.acquire()
        waiting.append(asyncio.create_task(stage.members.register(link.ifindex, Role.PRIMARY)))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(stage.members.one_at_a_time.release)

    stage = play(scene)
    assert isinstance(waiting[0].exception(), TapbondError)
    assert stage.network.device("eth1").mtu == 1400


def test_a_registration_under_way_while_everything_is_closed_is_given_back_too(
    play: Callable[[Scene], Stage],
) -> None:
    async def scene(stage: Stage) -> None:
        stage.members.expect([77])
        stage.network.add("eth1", MAC, ifindex=77, mtu=1400)
        goes_on = asyncio.Event()
        original = stage.network.rtnetlink.set_mtu

        async def set_mtu(link: Link, mtu: int) -> None:
            await goes_on.wait()
            await original(link, mtu)

        stage.network.rtnetlink.set_mtu = set_mtu  # type: ignore[method-assign]
        adding = asyncio.create_task(stage.members.register(77, Role.PRIMARY))
        await asyncio.sleep(1)
        closing = asyncio.create_task(stage.members.close())
        await asyncio.sleep(1)
        goes_on.set()
        await asyncio.gather(adding, closing)
        assert stage.slaves == {}

    assert play(scene).network.device("eth1").mtu == 1400
