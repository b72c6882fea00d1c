"""Slaves that live in a private namespace: what they were is put back, and no ifindex is mistaken for another."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from ipaddress import ip_interface
from pathlib import Path

import msgspec
import pytest
from world import Registering

from tapbond.adopted import AdoptionFile
from tapbond.adoption import Adoption
from tapbond.errors import LinkRequestError, RefusedError, TapbondError
from tapbond.isolation import KINDS, NoIsolation
from tapbond.isolation.netns import NetnsIsolation
from tapbond.journal import Journal
from tapbond.membership import Membership
from tapbond.model import Event, ReceiveMode, Role
from tapbond.recovery import clean_up, forget
from tapbond.registrar import Registrar
from tapbond.registry import Registry
from tapbond.rundir import RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.testing import FakeNetwork, FakePlace, FakePump, FakeRefuge, VirtualClock, run
from tapbond.testing.batch import FakeBatch

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
HOME, PRIVATE = 1, 2
EEXIST = LinkRequestError("eth1: cannot move it", 17, "File exists")


class Stage(Registering):
    """A failover tb0 without its TAP; eth0 is the standby, eth1 the primary, both at home still."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = VirtualClock()
        self.home, self.private = FakeNetwork(self.clock, HOME), FakeNetwork(self.clock, PRIVATE)
        self.pump = FakePump(self.clock, self.private)
        self.events: list[Event] = []
        self.run_dir = RunDir(tmp_path).make()
        self.journal_path = self.run_dir.journal("tb0")
        self.isolation = NetnsIsolation("tb0", FakePlace(self.home), tmp_path / "pin")
        self.isolation.refuge = FakeRefuge(self.home, self.private)
        self.selector = Selector(
            "tb0",
            ReceiveMode.ACTIVE,
            self.pump,
            self.private.links,
            set_carrier=lambda _on: None,
            emit=self.events.append,
            failed=lambda _reason: None,
            clock=self.clock,
        )
        self.pump.start(self.selector)
        self.members = Membership(
            Registry("tb0", MAC, "eth0", None),
            Registrar(self.home.rtnetlink, self.isolation, self.pump, Journal(self.journal_path)),
            self.selector,
            self.home.links,
            self.run_dir,
            settings=Settings(name="tb0", standby="eth0", drain_ns=0, updelay_ns=0),
            isolation="netns",
            emit=self.events.append,
            clock=self.clock,
            slave_links=self.private.links,
        )
        self.members.up = True
        self.home.add("eth0", MAC, up=False, mtu=1400, addr_gen_mode=0)
        self.home.add("eth1", MAC, mtu=1400, addr_gen_mode=0)
        self.addresses = {ip_interface("fe80::1/64"), ip_interface("192.0.2.9/24")}
        self.home.set_addresses("eth1", self.addresses)
        self.before = dict(self.home.devices)

    def play(self, scene: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            for network in (self.home, self.private):
                network.links.listen(self)
            self.selector.start()
            self.home.links.take_in()
            for link in tuple(self.home.links.by_index.values()):
                self.members.consider(link)
            await asyncio.sleep(1)
            await scene()
            await self.members.close()

        run(main(), self.clock)


def names(network: FakeNetwork) -> set[str]:
    return {link.name for link in network.devices.values()}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_slaves_live_there_and_come_home_as_they_were(stage: Stage) -> None:
    async def scene() -> None:
        assert stage.slaves == {"eth0": Role.STANDBY, "eth1": Role.PRIMARY}
        assert (names(stage.home), names(stage.private)) == (set(), {"eth0", "eth1"})
        for link in stage.private.devices.values():
            assert (link.up, link.mtu, link.addr_gen_mode) == (True, 1500, 1)
        assert len(Journal(stage.journal_path).left_behind()) == 2

    stage.play(scene)
    assert stage.home.devices == stage.before
    assert stage.home.device_addresses[stage.home.device("eth1").ifindex] == stage.addresses
    assert not stage.journal_path.exists()


def test_a_link_with_the_ifindex_of_a_slave_is_another_one(stage: Stage) -> None:
    async def scene() -> None:
        index = stage.private.device("eth1").ifindex
        stranger = stage.home.add("eth7", OTHER, ifindex=index)
        assert stage.members.slave_of(stranger) is None
        stage.home.change("eth7", up=False, carrier=False)
        assert stage.selector.active is not None
        assert stage.selector.active.name == "eth1"
        with pytest.raises(RefusedError, match="eth1 is already present"):
            await stage.members.register(index, Role.PRIMARY)
        stage.home.delete("eth7")
        assert stage.slaves == {"eth0": Role.STANDBY, "eth1": Role.PRIMARY}

    stage.play(scene)


def test_one_that_comes_home_to_a_taken_ifindex_does_not_touch_the_other(stage: Stage) -> None:
    async def scene() -> None:
        stage.home.add("eth7", OTHER, ifindex=stage.private.device("eth1").ifindex, mtu=9000)

    stage.play(scene)
    assert names(stage.home) == {"eth0", "eth1", "eth7"}
    assert stage.home.device("eth7").mtu == 9000
    assert (stage.home.device("eth1").mtu, stage.home.device("eth1").up) == (1400, True)


def test_removed_by_hand_is_not_taken_again(stage: Stage) -> None:
    async def scene() -> None:
        await stage.members.remove(stage.members.slave("eth1"), "removed")
        await asyncio.sleep(1)
        assert stage.slaves == {"eth0": Role.STANDBY}
        assert names(stage.home) == {"eth1"}
        stage.home.change("eth1", carrier=False)
        await asyncio.sleep(1)
        assert stage.slaves == {"eth0": Role.STANDBY}
        index = stage.home.device("eth1").ifindex
        stage.members.welcome(index)
        await stage.members.register(index, Role.PRIMARY)
        assert names(stage.private) == {"eth0", "eth1"}

    stage.play(scene)
    assert stage.home.device("eth1").mtu == 1400


@pytest.mark.parametrize("step", ["set_mtu", "set_addr_gen_mode", "set_up"])
def test_a_step_that_fails_there_brings_it_home_and_it_is_not_tried_again(stage: Stage, step: str) -> None:
    stage.private.rtnetlink.failures[step] = [TapbondError("eth0: no")] * 99

    async def scene() -> None:
        assert stage.slaves == {}
        assert names(stage.home) == {"eth0", "eth1"}
        assert len([request for request in stage.home.rtnetlink.requests if request[0] == "move"]) == 2

    stage.play(scene)
    assert stage.home.devices == stage.before


def test_one_that_cannot_be_moved_is_left_as_it_was(stage: Stage) -> None:
    stage.home.rtnetlink.failures["move"] = [LinkRequestError("eth0: cannot move it", 22, "no")] * 99

    async def scene() -> None:
        assert stage.slaves == {}

    stage.play(scene)
    assert stage.home.devices == stage.before


def test_one_that_cannot_come_home_stays_in_the_journal(stage: Stage) -> None:
    async def scene() -> None:
        failure = LinkRequestError("eth1: cannot move it", 22, "no")
        stage.private.rtnetlink.failures["move"] = [failure]

    stage.play(scene)
    assert names(stage.private) == {"eth1"}
    assert [original.name for original in Journal(stage.journal_path).left_behind()] == ["eth1"]


def test_a_name_that_is_taken_at_home_does_not_keep_it_away(stage: Stage) -> None:
    async def scene() -> None:
        stage.private.rtnetlink.failures["move"] = [EEXIST]

    stage.play(scene)
    assert names(stage.private) == set()
    assert [request[2] for request in stage.private.rtnetlink.requests if request[0] == "move"] == [
        "eth1",
        "dev%d",
        "eth0",
    ]


def test_unplugged_there(stage: Stage) -> None:
    async def scene() -> None:
        stage.private.delete("eth1")
        await asyncio.sleep(1)
        assert stage.slaves == {"eth0": Role.STANDBY}
        stage.home.add("eth1", MAC)
        await asyncio.sleep(1)
        assert stage.slaves == {"eth0": Role.STANDBY, "eth1": Role.PRIMARY}

    stage.play(scene)
    assert not stage.journal_path.exists()


def test_the_next_start_puts_back_what_was_never_moved(stage: Stage, tmp_path: Path) -> None:
    """Killed after the links were written down and before they were moved."""

    async def scene() -> None:
        stage.journal_path.rename(tmp_path / "kept")

    stage.play(scene)
    (tmp_path / "kept").rename(stage.journal_path)
    stage.home.change("eth1", mtu=9000)

    async def again() -> None:
        journal = Journal(stage.journal_path)
        nothing = Adoption(FakeBatch(), stage.home.links, AdoptionFile(tmp_path / "adopted"))
        done = await clean_up("tb0", FakePlace(stage.home), journal, tmp_path / "pin", nothing)
        assert done == ["slave eth0 put back", "slave eth1 put back"]

    run(again(), stage.clock)
    assert stage.home.device("eth1").mtu == 1400
    assert not stage.journal_path.exists()


def test_what_could_not_be_put_back_is_kept_for_the_next_time(stage: Stage, tmp_path: Path) -> None:
    """A step that the kernel refuses, and a namespace that cannot be opened now."""

    async def scene() -> None:
        stage.journal_path.rename(tmp_path / "kept")

    stage.play(scene)
    (tmp_path / "kept").rename(stage.journal_path)
    journal = Journal(stage.journal_path)
    eth0, eth1 = journal.left_behind()
    elsewhere = msgspec.structs.replace(eth0, name="eth5", netns=77, netns_name=str(tmp_path / "nowhere"))
    journal.keep((eth0, eth1, elsewhere))
    stage.home.change("eth1", mtu=9000)
    stage.home.rtnetlink.failures["set_mtu"] = [LinkRequestError("eth0: cannot", errno.EBUSY, "busy")]
    nothing = Adoption(FakeBatch(), stage.home.links, AdoptionFile(tmp_path / "adopted"))

    async def again() -> list[str]:
        return await clean_up("tb0", FakePlace(stage.home), journal, tmp_path / "pin", nothing)

    unreachable = f"slave eth5 not put back: its namespace {tmp_path / 'nowhere'} cannot be opened"
    assert run(again(), stage.clock) == ["slave eth0 not completely put back", "slave eth1 put back", unreachable]
    assert [original.name for original in journal.left_behind()] == ["eth0", "eth5"]
    assert run(again(), stage.clock) == ["slave eth0 put back", unreachable]
    assert forget_words(tmp_path, journal) == ["slave eth5 forgotten"]


def test_a_link_that_another_failover_has_by_now_is_left_to_it(stage: Stage, tmp_path: Path) -> None:
    async def scene() -> None:
        stage.journal_path.rename(tmp_path / "kept")

    stage.play(scene)
    (tmp_path / "kept").rename(stage.journal_path)
    journal = Journal(stage.journal_path)
    folder = tmp_path / "run"
    ifindex = stage.home.device("eth1").ifindex
    other = RunDir(folder, HOME).make().lock_link(ifindex, "eth1", "tb1")
    stage.home.change("eth1", mtu=9000)
    nothing = Adoption(FakeBatch(), stage.home.links, AdoptionFile(tmp_path / "adopted"))

    async def again() -> list[str]:
        pin = RunDir(folder, HOME).pin("tb0")
        return await clean_up("tb0", FakePlace(stage.home), journal, pin, nothing)

    eth0, eth1 = run(again(), stage.clock)
    assert (eth0, eth1) == ("slave eth0 put back", "slave eth1 not put back: eth1: already a slave of tb1")
    assert stage.home.device("eth1").mtu == 9000
    other.release()
    assert run(again(), stage.clock) == ["slave eth1 put back"]


def forget_words(folder: Path, journal: Journal) -> list[str]:
    """Forget what a journal holds, as if it were that of a failover below ``folder``."""
    run_dir = RunDir(folder).make()
    Journal(run_dir.journal("tb0")).keep(journal.left_behind())
    words = forget("tb0", run_dir)
    assert not run_dir.journal("tb0").exists()
    assert forget("tb0", run_dir) == []
    return words


def test_the_kinds() -> None:
    assert set(KINDS) == {"bridge", "nft", "netns", "none"}
    assert NoIsolation.refuge is None
