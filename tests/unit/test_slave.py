"""A slave: when it may send, and how a link becomes one and is given back."""

import errno
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from tapbond.delays import LinkDelays
from tapbond.errors import LinkRequestError, NoSuchInterfaceError, RefusedError, TapbondError
from tapbond.isolation import BridgeIsolation, NoIsolation
from tapbond.journal import Journal
from tapbond.model import Counters, Detector, Link, Role
from tapbond.registrar import Registrar
from tapbond.rundir import Lock
from tapbond.slave import (
    HOLD_FIRST_NS,
    HOLD_MAX_NS,
    HOLD_MEMORY_NS,
    STALE_NS,
    Slave,
)
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

T = 1_000_000_000_000
MAC = "52:54:00:00:00:01"
MS = 1_000_000


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / "lock", "busy")


@pytest.fixture
def slave(lock: Lock) -> Slave:
    return Slave(Link(ifindex=2, name="eth1", mac=MAC, up=True, carrier=True), Role.PRIMARY, lock)


def change(slave: Slave, **properties: Any) -> None:
    slave.link = Link(**({"ifindex": 2, "name": "eth1", "mac": MAC, "up": True, "carrier": True} | properties))


# Whether it may send.


def test_a_slave_is_ready_when_up_with_a_carrier(slave: Slave) -> None:
    assert slave.why_not_ready(T) == ""
    assert slave.facts().ready(T)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"up": False, "carrier": False}, "set down"),
        ({"up": False}, "set down"),
        ({"carrier": False}, "carrier lost"),
    ],
)
def test_why_it_is_not(slave: Slave, properties: dict[str, bool], reason: str) -> None:
    change(slave, **properties)
    assert slave.why_not_ready(T) == reason
    assert not slave.facts().ready(T)


def test_one_that_has_gone_is_not_ready_whatever_was_known_of_it(slave: Slave) -> None:
    slave.gone = True
    assert slave.why_not_ready(T) == "unplugged"
    assert not slave.facts().ready(T)


def test_a_first_failure_costs_nothing(slave: Slave) -> None:
    slave.failed(T, T)
    assert slave.facts().held_until_ns == 0
    assert slave.why_not_ready(T) == ""


def test_a_second_failure_within_a_second_holds_it(slave: Slave) -> None:
    slave.failed(T, T)
    slave.failed(T + STALE_NS, T + STALE_NS)
    assert slave.facts().held_until_ns == T + STALE_NS + HOLD_FIRST_NS
    assert slave.why_not_ready(T + STALE_NS) == "send errors"
    assert slave.why_not_ready(T + STALE_NS + HOLD_FIRST_NS - 1) == "send errors"
    assert slave.why_not_ready(T + STALE_NS + HOLD_FIRST_NS) == ""


def test_a_second_failure_after_more_than_a_second_is_a_first_one_again(slave: Slave) -> None:
    slave.failed(T, T)
    slave.failed(T + STALE_NS + 1, T + STALE_NS + 1)
    assert slave.facts().held_until_ns == 0


def test_each_failure_after_a_hold_doubles_it_up_to_a_limit(slave: Slave) -> None:
    now = T
    slave.failed(now, now)
    holds = []
    for _ in range(12):
        now += 1
        slave.failed(now, now)
        holds.append(slave.facts().held_until_ns - now)
        now = slave.facts().held_until_ns
    expected = [min(HOLD_FIRST_NS << n, HOLD_MAX_NS) for n in range(12)]
    assert holds == expected
    assert holds[-1] == HOLD_MAX_NS


def test_a_minute_of_quiet_is_forgiven(slave: Slave) -> None:
    for n in range(5):
        slave.failed(T + n, T + n)
    assert slave.facts().held_until_ns > T + HOLD_FIRST_NS
    later = T + 4 + HOLD_MEMORY_NS + 1
    slave.failed(later, later)
    assert slave.facts().held_until_ns < later
    slave.failed(later + 1, later + 1)
    assert slave.facts().held_until_ns == later + 1 + HOLD_FIRST_NS


def test_what_the_policy_is_told(slave: Slave) -> None:
    slave.port = 3
    facts = slave.facts()
    assert (facts.port, facts.role, facts.up, facts.carrier) == (3, Role.PRIMARY, True, True)


def test_a_link_that_comes_up_settles_after_the_updelay(lock: Lock) -> None:
    slave = Slave(Link(ifindex=2, name="eth1", mac=MAC), Role.PRIMARY, lock, LinkDelays(100))
    up = Link(ifindex=2, name="eth1", mac=MAC, up=True, carrier=True)
    slave.update(up, T, Detector.POLL)
    assert slave.facts().settled_ns == T + 100
    assert slave.came_up == (Detector.POLL, T)
    slave.update(up, T + 50, Detector.NETLINK)
    assert slave.facts().settled_ns == T + 100
    assert slave.came_up == (Detector.POLL, T)
    slave.update(Link(ifindex=2, name="eth1", mac=MAC, up=True), T + 60, Detector.NETLINK)
    slave.update(up, T + 70, Detector.NETLINK)
    assert slave.facts().settled_ns == T + 170


# Becoming one, and being given back.


class Stage:
    """A registrar over fakes."""

    def __init__(self, tmp_path: Path, isolation: str = "bridge", **properties: Any) -> None:
        clock = VirtualClock()
        self.network = FakeNetwork(clock)
        self.rtnetlink = self.network.rtnetlink
        self.pump = FakePump(clock, self.network)
        self.journal = Journal(tmp_path / "journal")
        self.path = tmp_path / "journal"
        self.before = self.network.add("eth1", MAC, **({"mtu": 1400, "addr_gen_mode": 0} | properties))
        self.address = ip_interface("fe80::1/64")
        self.network.set_addresses("eth1", {self.address})
        kinds = {"bridge": BridgeIsolation, "none": NoIsolation}
        self.isolation = kinds[isolation]("tb0", self.rtnetlink)
        self.registrar = Registrar(self.rtnetlink, self.isolation, self.pump, self.journal)
        self.lock = Lock(tmp_path / "lock", "busy")
        self.slave = Slave(self.before, Role.PRIMARY, self.lock)

    async def register(self, *, up: bool = True) -> None:
        await self.isolation.open()
        self.rtnetlink.requests.clear()
        await self.registrar.register(self.slave, MAC, 1500, up, {self.address})

    def now(self) -> Link:
        return self.network.device("eth1")

    def methods(self) -> list[str]:
        return [request[0] for request in self.rtnetlink.requests]


def test_a_link_is_changed_in_the_kernels_order(tmp_path: Path) -> None:
    stage = Stage(tmp_path, up=False)
    run(stage.register(), VirtualClock())
    assert stage.methods() == ["set_mtu", "set_addr_gen_mode", "remove_address", "set_master", "set_up"]
    assert stage.now().mtu == 1500
    assert stage.now().up
    assert stage.now().master
    assert stage.slave.port == 0
    assert stage.network.device_addresses[stage.before.ifindex] == set()


def test_a_link_is_not_opened_while_the_failover_is_down(tmp_path: Path) -> None:
    stage = Stage(tmp_path, up=False)
    run(stage.register(up=False), VirtualClock())
    assert not stage.now().up


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("isolation", ["bridge", "none"])
def test_a_released_link_is_as_it_was_found(tmp_path: Path, isolation: str, up: bool) -> None:
    stage = Stage(tmp_path, isolation, up=up)

    async def main() -> None:
        await stage.register()
        await stage.registrar.release(stage.slave)
        await stage.registrar.release(stage.slave)

    run(main(), VirtualClock())
    assert stage.now() == stage.before
    if up:
        assert stage.network.device_addresses[stage.before.ifindex] == {stage.address}
    assert stage.pump.ports == {}
    assert not stage.path.exists()
    Lock(tmp_path / "lock", "must be free").release()


def test_isolation_none_leaves_the_addresses_alone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "none")
    run(stage.register(), VirtualClock())
    assert stage.methods() == ["set_mtu"]


@pytest.mark.parametrize("step", ["set_mtu", "set_addr_gen_mode", "remove_address", "set_master"])
def test_whichever_step_fails_everything_is_undone_and_said(tmp_path: Path, step: str) -> None:
    stage = Stage(tmp_path, up=False)
    failure = TapbondError("eth1: the kernel said no")

    async def main() -> None:
        await stage.isolation.open()
        stage.rtnetlink.failures[step] = [failure]
        with pytest.raises(RefusedError, match=r"^eth1: the kernel said no$"):
            await stage.registrar.register(stage.slave, MAC, 1500, True, {stage.address})

    run(main(), VirtualClock())
    assert stage.now() == stage.before
    assert stage.pump.ports == {}
    assert not stage.path.exists()
    Lock(tmp_path / "lock", "must be free").release()


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EIO])
def test_a_link_that_does_not_open_is_a_slave_all_the_same(tmp_path: Path, code: int) -> None:
    stage = Stage(tmp_path, up=False)

    async def main() -> None:
        await stage.isolation.open()
        stage.rtnetlink.failures["set_up"] = [LinkRequestError("eth1: cannot set up", code, "no")]
        await stage.registrar.register(stage.slave, MAC, 1500, True, {stage.address})

    run(main(), VirtualClock())
    assert stage.slave.port in stage.pump.ports
    assert not stage.now().up


@pytest.mark.parametrize("step", ["set_mtu", "set_addr_gen_mode", "set_master", "set_up"])
def test_a_link_that_cannot_be_put_back_is_let_go_all_the_same(tmp_path: Path, step: str) -> None:
    stage = Stage(tmp_path, up=False)

    async def main() -> None:
        await stage.register()
        stage.rtnetlink.failures[step] = [TapbondError("eth1: no")] * 9
        await stage.registrar.release(stage.slave)

    run(main(), VirtualClock())
    assert stage.pump.ports == {}
    assert not stage.path.exists()
    Lock(tmp_path / "lock", "must be free").release()


def test_a_link_that_goes_while_it_is_registered(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def main() -> None:
        await stage.isolation.open()
        stage.network.delete("eth1")
        with pytest.raises(NoSuchInterfaceError):
            await stage.registrar.register(stage.slave, MAC, 1500, True, ())

    run(main(), VirtualClock())
    assert not stage.path.exists()
    assert stage.pump.ports == {}


def test_releasing_a_link_that_has_gone(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def main() -> None:
        await stage.register()
        stage.network.delete("eth1")
        await stage.registrar.release(stage.slave)

    run(main(), VirtualClock())
    assert not stage.path.exists()


def test_it_is_written_down_before_anything_is_changed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def main() -> None:
        await stage.isolation.open()
        stage.rtnetlink.failures["set_mtu"] = [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            await stage.registrar.register(stage.slave, MAC, 1500, True, ())

    stage.journal.forget = lambda _ifindex: None
    run(main(), VirtualClock())
    (original,) = Journal(stage.path).left_behind()
    assert (original.name, original.mtu, original.addr_gen_mode) == ("eth1", 1400, 0)


def test_status(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    run(stage.register(), VirtualClock())
    stage.pump.count(0, tx_frames=3)
    status = stage.slave.status(stage.pump, True, "bridge", T)
    assert (status.name, status.role, status.ready, status.active) == ("eth1", Role.PRIMARY, True, True)
    assert status.counters == Counters(tx_frames=3)


def test_a_failure_before_the_link_came_up_again_is_no_lie(slave: Slave) -> None:
    up = slave.link
    change(slave, carrier=False)
    slave.update(up, T + 2, Detector.NETLINK)
    for _ in range(3):
        slave.failed(T + 1, T + 3)
    assert slave.facts().ready(T + 3)
