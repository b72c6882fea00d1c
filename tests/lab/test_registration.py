"""Which links become slaves: any order, any time, and with the reason when not."""

import asyncio
import contextlib

import pytest
import uvloop
from observe import Start, ip_link

from tapbond import ControlError, Event, Failover, Role, SlaveRegistered, SlaveReleased, Switchover
from tapbond.lab import FAR_V4, Lab, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping"), pytest.mark.both_paths]


def slaves(process: FailoverProcess) -> dict[str, str]:
    return {slave.name: slave.role for slave in process.status().slaves}


def active(process: FailoverProcess) -> str | None:
    return process.status().active


def test_primary_unnamed_is_found_by_its_mac(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0")
    wait_until(lambda: active(process) == "eth1", what="eth1 as primary")
    assert slaves(process) == {"eth0": "standby", "eth1": "primary"}


@pytest.mark.parametrize("options", [("--standby", "eth0"), ("--standby", "eth0", "--primary", "eth1")])
def test_primary_comes_later(lab: Lab, start: Start, options: tuple[str, ...]) -> None:
    lab.unplug("eth1")
    process = start(lab, *options)
    assert active(process) == "eth0"
    lab.plug("eth1")
    wait_until(lambda: active(process) == "eth1", what="eth1 as primary")


def test_unplugged_and_plugged_again_and_again(lab: Lab, start: Start, isolation: str) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    indexes = set()
    for _ in range(10):
        indexes.add(next(slave.ifindex for slave in process.status().slaves if slave.name == "eth1"))
        lab.unplug("eth1")
        wait_until(lambda: slaves(process) == {"eth0": "standby"}, what="eth1 to be gone")
        lab.host.check_output(["ping", "-c1", "-W1", str(FAR_V4)])
        lab.plug("eth1")
        wait_until(lambda: active(process) == "eth1", what="eth1 to be active")
        lab.host.check_output(["ping", "-c1", "-W1", str(FAR_V4)])
    assert len(indexes) == 10


def test_both_unplugged_and_back_in_the_other_order(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.unplug("eth1")
    lab.unplug("eth0")
    wait_until(lambda: slaves(process) == {}, what="both to be gone")
    assert "NO-CARRIER" in ip_link(lab.host, "tb0")["flags"]
    lab.plug("eth1")
    wait_until(lambda: active(process) == "eth1", what="eth1 to be active")
    lab.plug("eth0")
    wait_until(lambda: slaves(process) == {"eth0": "standby", "eth1": "primary"}, what="both slaves")
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])


def test_plugged_again_under_another_name(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.unplug("eth1")
    lab.plug("eth1", mac="02:00:00:00:00:99")
    lab.rename("eth1", "vf9")
    wait_until(lambda: slaves(process) == {"eth0": "standby"}, what="eth1 to be gone")
    lab.host.check_output(["ip", "link", "set", "vf9", "address", "02:00:00:00:00:53"])
    wait_until(lambda: slaves(process).get("vf9") == "primary", what="vf9 as primary")
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])


def test_rename_while_registered(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.host.check_output(["ip", "link", "property", "add", "dev", "eth1", "altname", "kept"])
    lab.rename("eth1", "vf0")
    wait_until(lambda: active(process) == "vf0", what="the new name")
    lab.down("vf0")
    wait_until(lambda: active(process) == "eth0", what="the switchover")
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
    record = process.status().last_switchovers
    wait_until(lambda: process.status().last_switchovers[-1].from_slave == "vf0", what=f"the record in {record}")


def test_a_second_primary_is_refused_and_left_alone(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.host.check_output(
        ["ip", "link", "add", "eth2", "address", "02:00:00:00:00:53", "type", "veth", "peer", "name", "far2"]
    )
    reason = "attempting to register as primary when eth1 is already present"
    wait_until(lambda: reason in process.log, what="the refusal")
    assert slaves(process) == {"eth0": "standby", "eth1": "primary"}
    assert "master" not in ip_link(lab.host, "eth2")
    assert ip_link(lab.host, "eth2")["flags"] == ["BROADCAST", "MULTICAST", "M-DOWN"]
    lab.unplug("eth1")
    wait_until(lambda: slaves(process) == {"eth0": "standby"}, what="eth1 to be gone")
    lab.host.check_output(["ping", "-c1", "-W3", FAR_V4])
    assert slaves(process) == {"eth0": "standby"}, "nor is it promoted later"
    lab.plug("eth1")
    wait_until(lambda: slaves(process) == {"eth0": "standby", "eth1": "primary"}, what="eth1 again")


def test_another_mac_on_a_named_link(lab: Lab, start: Start) -> None:
    lab.unplug("eth1")
    process = start(lab)
    lab.plug("eth1", mac="02:00:00:00:00:99")
    wait_until(lambda: "is not tb0's 02:00:00:00:00:53" in process.log, what="the refusal")
    lab.host.check_output(["ip", "link", "set", "eth1", "address", "02:00:00:00:00:53"])
    wait_until(lambda: active(process) == "eth1", what="eth1 as primary")


def test_a_link_with_the_mac_that_is_somebodys_port_is_refused(lab: Lab, start: Start) -> None:
    lab.unplug("eth1")
    process = start(lab)
    lab.host.check_output(["ip", "link", "add", "br7", "type", "bridge"])
    lab.plug("eth1", mac="02:00:00:00:00:98")
    lab.host.check_output(["ip", "link", "set", "eth1", "master", "br7"])
    lab.host.check_output(["ip", "link", "set", "eth1", "address", "02:00:00:00:00:53"])
    wait_until(lambda: "already a port of br7" in process.log, what="the refusal")
    lab.host.check_output(["ip", "link", "set", "eth1", "nomaster"])
    wait_until(lambda: active(process) == "eth1", what="eth1 as primary")


def test_slaves_get_the_mtu(lab: Lab, start: Start) -> None:
    lab.host.check_output(["ip", "link", "set", "eth1", "mtu", "1300"])
    process = start(lab)
    assert ip_link(lab.host, "eth1")["mtu"] == 1500
    process.stop()
    assert ip_link(lab.host, "eth1")["mtu"] == 1300


def test_mtu_option_reaches_slaves_that_come_later(lab: Lab, start: Start) -> None:
    lab.unplug("eth1")
    process = start(lab, "--standby", "eth0", "--mtu", "9000")
    assert ip_link(lab.host, "eth0")["mtu"] == 9000
    lab.plug("eth1")
    wait_until(lambda: active(process) == "eth1", what="eth1 as primary")
    assert ip_link(lab.host, "eth1")["mtu"] == 9000
    assert process.status().mtu == 9000


def test_a_step_that_fails_unwinds_all_before_it(lab: Lab, start: Start) -> None:
    """A bridge cannot be a port of a bridge: by then its MTU and its addrgenmode are changed already."""
    lab.unplug("eth1")
    process = start(lab, "--standby", "eth0", "--isolation", "bridge")
    lab.host.check_output(["ip", "link", "add", "br9", "mtu", "1400", "type", "bridge"])
    lab.host.check_output(["ip", "link", "set", "br9", "address", "02:00:00:00:00:53"])
    before = ip_link(lab.host, "br9")
    with pytest.raises(ControlError, match="br9: cannot set master"):
        process.call("AddSlave", link="br9", role="primary")
    after = ip_link(lab.host, "br9")
    for what in ("mtu", "inet6_addr_gen_mode", "flags"):
        assert after[what] == before[what]
    assert slaves(process) == {"eth0": "standby"}


def test_removed_by_hand_and_added_again(lab: Lab, start: Start) -> None:
    process = start(lab)
    process.call("RemoveSlave", slave="eth1")
    assert slaves(process) == {"eth0": "standby"}
    assert "master" not in ip_link(lab.host, "eth1")
    lab.up("eth1")
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
    assert slaves(process) == {"eth0": "standby"}
    with pytest.raises(ControlError, match="attempting to register as standby when eth0 is already present"):
        process.call("AddSlave", link="eth1", role="standby")
    with pytest.raises(ControlError, match="eth7: no such interface"):
        process.call("AddSlave", link="eth7", role="primary")
    process.call("AddSlave", link="eth1", role="primary")
    wait_until(lambda: active(process) == "eth1", what="eth1 to be active")


def test_moved_to_another_namespace_is_unplugged(lab: Lab, start: Start) -> None:
    process = start(lab)
    pid = lab.far.spawn(["sleep", "30"])
    with contextlib.closing(pid.stdout) if pid.stdout else contextlib.nullcontext():
        lab.host.check_output(["ip", "link", "set", "eth1", "netns", str(pid.pid)])
        wait_until(lambda: slaves(process) == {"eth0": "standby"}, what="eth1 to be gone")
        lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
        pid.kill()
        pid.wait()


def test_the_library(lab: Lab) -> None:
    """The library, in this process: it needs the namespace only while it opens its sockets."""

    async def main() -> None:
        async with Failover("tb0", standby="eth0", primary="eth1") as failover:
            events = failover.events()
            failover.switch("eth0")
            await failover.remove("eth1")
            await failover.add("eth1", Role.PRIMARY)
            seen: dict[type, Event] = {}
            async with asyncio.timeout(10):
                while not {SlaveReleased, SlaveRegistered, Switchover} <= seen.keys():
                    event = await anext(events)
                    if not isinstance(event, Switchover) or event.to_slave == "eth0":
                        seen[type(event)] = event
            switchover = seen[Switchover]
            assert isinstance(switchover, Switchover)
            assert (switchover.from_slave, switchover.cause) == ("eth1", "switched by hand")
            status = failover.status()
            assert (status.active, status.requested) == ("eth0", "eth0")
            assert [slave.name for slave in status.slaves] == ["eth0", "eth1"]
        assert [event async for event in failover.events()] == []

    def whole() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    lab.host.run(whole)
