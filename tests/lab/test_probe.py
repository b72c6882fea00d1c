"""Paths whose carrier lies: the switch drops everything on a port, and the link stays up.

host                           switch                    far
tb0 ═ numbered UDP ═══════════════════════════════════ eth0 10.53.0.2 fd53::2 (the target of the probes)
eth0 (standby) ───────── sw0 ┐
eth1 (primary) ───────── sw1 ┴ br0 ─ swf
                          └ silent: its port is in the state "disabled": nothing in, nothing out
"""

import contextlib
import json
import time
from ipaddress import ip_address
from typing import Any

import pytest
from observe import Start, Wire, ip_link, raw

from tapbond import Detector, Switchover
from tapbond.formats.table import describe
from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, Lab, UdpFlow, wait_until, windows
from tapbond.lab.process import FailoverProcess
from tapbond.model import Link
from tapbond.probe import WATCHERS
from tapbond.probe.port import SocketPort
from tapbond.probe.watcher import Watcher
from tapbond.state import SlaveStatus

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "bridge", "ping")]

SLAVES = ("--standby", "eth0", "--primary", "eth1")
FAST = ("--probe-interval", "20", "--probe-missed", "2")
LIMIT_NS = 100_000_000
TRIES = 3
RATE = 2000
ABSENT_V4 = "10.53.0.77"

TARGETS = pytest.mark.parametrize("target", [FAR_V4, FAR_V6])
"""ARP and neighbour probes."""


def silence(lab: Lab, port: str) -> int:
    """Let the switch drop what comes in and goes out at a port, without a word to the link; return when."""
    at = time.monotonic_ns()
    lab.switch.check_output(["bridge", "link", "set", "dev", port, "state", "0"])
    return at


def heal(lab: Lab, port: str) -> int:
    at = time.monotonic_ns()
    lab.switch.check_output(["bridge", "link", "set", "dev", port, "state", "3"])
    return at


def slave(process: FailoverProcess, name: str) -> SlaveStatus:
    return next(slave for slave in process.status().slaves if slave.name == name)


def answered(process: FailoverProcess, **expected: bool) -> None:
    """Wait until slaves have, or have not, their probes answered."""

    def now() -> bool:
        return {name: slave(process, name).answered for name in expected} == expected

    wait_until(now, what=f"{expected}")


def heard(process: FailoverProcess, *names: str) -> None:
    """Wait until every target has answered over each of these slaves."""
    wait_until(
        lambda: all(probe.answered for name in names for probe in slave(process, name).probes),
        what=f"an answer of each target over {names}",
    )


def becomes_active(process: FailoverProcess, name: str) -> None:
    wait_until(lambda: process.status().active == name, what=f"{name} to be active")


def records(process: FailoverProcess, count: int) -> list[Switchover]:
    """Return the records, when there are so many; each is complete within a second."""
    wait_until(lambda: process.status().switchovers >= count, what=f"{count} switchovers")
    wait_until(lambda: len(process.status().last_switchovers) >= count, what=f"{count} records")
    return list(process.status().last_switchovers)


def answers(process: FailoverProcess, lab: Lab, count: int, *links: str) -> None:
    """Wait until the target has been asked so many more times over each link, as the links' frames tell."""

    def sent() -> list[int]:
        return [int(ip_stats(lab, link)) for link in links]

    goal = [number + count for number in sent()]
    wait_until(lambda: all(now >= then for now, then in zip(sent(), goal, strict=True)), what=f"{count} probes")
    assert process.status().carrier


def ip_stats(lab: Lab, link: str) -> int:
    found = json.loads(lab.host.check_output(["ip", "-j", "-s", "link", "show", link]))
    return found[0]["stats64"]["tx"]["packets"]


@TARGETS
def test_a_silent_path_is_left_and_taken_again(lab: Lab, start: Start, target: str) -> None:
    process = start(lab, *SLAVES, "--probe", target, *FAST)
    heard(process, "eth0", "eth1")
    silence(lab, "sw1")
    becomes_active(process, "eth0")
    lost = slave(process, "eth1")
    assert (lost.up, lost.carrier, lost.ready, lost.answered) == (True, True, True, False)
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
    heal(lab, "sw1")
    becomes_active(process, "eth1")
    _, away, back = records(process, 3)
    assert (away.cause, away.detector) == ("probes unanswered", Detector.PROBE)
    assert (back.cause, back.detector) == ("primary ready", Detector.PROBE)
    assert "probes go unanswered" in process.log
    assert "probes are answered again" in process.log


@TARGETS
@pytest.mark.parametrize("isolation", ["bridge", "nft"])
def test_the_outage_of_a_silent_path(lab: Lab, start: Start, target: str, isolation: str) -> None:
    """The issue's figure: under 100 ms each way; and nothing on the way back. Best of three: machines are busy."""
    process = start(lab, *SLAVES, "--isolation", isolation, "--probe", target, *FAST)
    for _ in range(TRIES):
        heard(process, "eth0", "eth1")
        outages, returns = silent_and_back(lab, process)
        if max(outages) < LIMIT_NS and returns == [(0, 0), (0, 0)]:
            return
    pytest.fail(f"outages {outages} ns, on the way back {returns} lost and duplicated")


def silent_and_back(lab: Lab, process: FailoverProcess) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the outage each way, and what the way back has lost and duplicated each way."""
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
    lab.far.check_output(["ping", "-c1", "-W2", str(HOST_V4)])
    flows = (
        UdpFlow(lab.host, lab.far, FAR_V4, 5001, rate=RATE, seconds_max=60),
        UdpFlow(lab.far, lab.host, HOST_V4, 5002, rate=RATE, seconds_max=60),
    )
    with flows[0], flows[1]:
        for flow in flows:
            flow.start()
        passes(flows)
        silent = silence(lab, "sw1")
        becomes_active(process, "eth0")
        passes(flows)
        healed = heal(lab, "sw1")
        becomes_active(process, "eth1")
        passes(flows)
    found = [windows(flow.record(), [("silent", silent), ("healed", healed)]) for flow in flows]
    return [each[0].outage_ns for each in found], [(each[1].lost, each[1].duplicated) for each in found]


def passes(flows: tuple[UdpFlow, UdpFlow]) -> None:
    before = [flow.received + 300 for flow in flows]
    wait_until(
        lambda: all(flow.received >= goal for flow, goal in zip(flows, before, strict=True)), what="traffic"
    )


@TARGETS
def test_all_slaves_stay_answered(lab: Lab, start: Start, target: str) -> None:
    """bond_options.sh's arp_validate in spirit: after many probes each way nothing has been missed for good."""
    process = start(lab, *SLAVES, "--probe", target, *FAST)
    heard(process, "eth0", "eth1")
    answers(process, lab, 100, "eth0", "eth1")
    for name in ("eth0", "eth1"):
        assert slave(process, name).answered
        (probe,) = slave(process, name).probes
        assert probe.answered
        assert probe.rtt_ns is not None
    assert process.status().switchovers == 1
    assert "unanswered" not in process.log


def test_a_standbys_probes_leave_the_switchs_table_alone(lab: Lab, start: Start) -> None:
    shared = bytes.fromhex("020000000053")
    with Wire(lab.switch, "sw0", lambda frame: frame[6:12] != bytes(6)) as wire:
        process = start(lab, *SLAVES, "--probe", FAR_V4, "--probe", FAR_V6, *FAST)
        heard(process, "eth0", "eth1")
        lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
        before = len(wire.frames)
        wait_until(lambda: len(wire.frames) > before + 50, what="probes on sw0")
        assert lab.switch_port_of() == "sw1"
        own = {frame[6:12] for frame in wire.frames[before:]}
        assert len(own) == 1
        assert shared not in own
        assert next(iter(own))[0] & 3 == 2
        process.call("Switch", slave="eth0")
        wait_until(lambda: lab.switch_port_of() == "sw0", what="the switch to learn")
        wait_until(lambda: any(frame[6:12] == shared for frame in wire.frames[before:]), what="the shared MAC")
        answers(process, lab, 20, "eth0", "eth1")
        assert lab.switch_port_of() == "sw0"
        assert all(found.answered for found in process.status().slaves)
    assert "unanswered" not in process.log


def test_a_target_that_is_absent_holds_nothing_down(lab: Lab, start: Start) -> None:
    process = start(lab, *SLAVES, "--probe", ABSENT_V4, *FAST, "--probe-grace", "100")
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
    wait_until(lambda: "probe target has not answered over any slave" in process.log, what="the warning")
    answers(process, lab, 20, "eth0", "eth1")
    assert process.status().active == "eth1"
    assert all(found.answered for found in process.status().slaves)
    assert all(not probe.answered for found in process.status().slaves for probe in found.probes)
    lab.down("eth1")
    becomes_active(process, "eth0")


def test_a_target_that_appears_later_counts_from_then_on(lab: Lab, start: Start) -> None:
    process = start(lab, *SLAVES, "--probe", ABSENT_V4, *FAST)
    answers(process, lab, 10, "eth0", "eth1")
    lab.far.check_output(["ip", "addr", "add", f"{ABSENT_V4}/24", "dev", "eth0"])
    heard(process, "eth0", "eth1")
    assert process.status().switchovers == 1
    silence(lab, "sw1")
    becomes_active(process, "eth0")
    answered(process, eth0=True, eth1=False)


@TARGETS
def test_when_every_target_dies_nothing_switches(lab: Lab, start: Start, target: str) -> None:
    process = start(lab, *SLAVES, "--probe", target, *FAST)
    heard(process, "eth0", "eth1")
    lab.switch.check_output(["bridge", "link", "set", "dev", "swf", "state", "0"])
    answered(process, eth0=False, eth1=False)
    answers(process, lab, 20, "eth0", "eth1")
    assert (process.status().active, process.status().carrier) == ("eth1", True)
    assert "LOWER_UP" in ip_link(lab.host, "tb0")["flags"]
    process.call("Switch", slave="eth0")
    becomes_active(process, "eth0")
    lab.switch.check_output(["bridge", "link", "set", "dev", "swf", "state", "3"])
    answered(process, eth0=True, eth1=True)
    assert process.status().active == "eth0"
    process.call("Switch", slave=None)
    becomes_active(process, "eth1")
    assert process.status().switchovers == 3


def test_a_target_that_dies_does_not_bring_back_a_path_that_was_dead(lab: Lab, start: Start) -> None:
    process = start(lab, *SLAVES, "--probe", FAR_V4, *FAST)
    heard(process, "eth0", "eth1")
    silence(lab, "sw1")
    becomes_active(process, "eth0")
    lab.switch.check_output(["bridge", "link", "set", "dev", "swf", "state", "0"])
    answered(process, eth0=False, eth1=False)
    answers(process, lab, 20, "eth0", "eth1")
    assert process.status().active == "eth0"
    heal(lab, "sw1")
    lab.switch.check_output(["bridge", "link", "set", "dev", "swf", "state", "3"])
    becomes_active(process, "eth1")


def test_a_link_that_flaps_is_probed_anew(lab: Lab, start: Start) -> None:
    """Each time ENETDOWN waits on the socket, and the path is trusted until it has answered."""
    process = start(lab, *SLAVES, "--probe", FAR_V4, *FAST, "--updelay", "0")
    for event, undo in ((lab.down, lab.up), (lab.lose_carrier, lab.restore_carrier), (lab.unplug, lab.plug)):
        heard(process, "eth0", "eth1")
        event("eth1")
        becomes_active(process, "eth0")
        undo("eth1")
        becomes_active(process, "eth1")
    heard(process, "eth0", "eth1")
    silence(lab, "sw1")
    becomes_active(process, "eth0")


def test_any_and_all_of_targets_and_watchers(lab: Lab, start: Start) -> None:
    """The second address of the far host stands for another target, and IPv6 for another watcher."""
    lab.far.check_output(["ip", "addr", "add", f"{ABSENT_V4}/24", "dev", "eth0"])
    targets = ("--probe", FAR_V4, "--probe", ABSENT_V4, "--probe", FAR_V6)
    strict = start(lab, *SLAVES, *targets, *FAST, "--probe-targets", "all")
    heard(strict, "eth0", "eth1")
    lab.far.check_output(["ip", "addr", "del", f"{ABSENT_V4}/24", "dev", "eth0"])
    answered(strict, eth0=False, eth1=False)
    strict.stop()
    lenient = start(lab, *SLAVES, *targets, *FAST, "--probe-watchers", "any")
    wait_until(lambda: sum(probe.answered for probe in slave(lenient, "eth1").probes) == 2, what="two targets")
    lab.far.check_output(["ip", "addr", "del", f"{FAR_V6}/64", "dev", "eth0"])
    wait_until(lambda: sum(probe.answered for probe in slave(lenient, "eth1").probes) == 1, what="one target")
    answered(lenient, eth0=True, eth1=True)


def test_status_shows_a_silent_path(lab: Lab, start: Start) -> None:
    process = start(lab, *SLAVES, "--probe", FAR_V4, *FAST)
    heard(process, "eth0", "eth1")
    silence(lab, "sw0")
    answered(process, eth0=False, eth1=True)
    lines = describe(process.status())
    assert any("eth0" in line and "standby" in line and "no answer" in line for line in lines)
    (probe,) = slave(process, "eth0").probes
    assert (probe.target, probe.answered) == (FAR_V4, False)
    assert probe.missed >= 3


# What the kernel does that this stands on.


def test_a_probe_of_rfc_5227_is_answered_to_its_mac_and_learnt_by_nobody(lab: Lab) -> None:
    asking = bytes.fromhex("0600000000aa")
    with port(lab, asking) as prober:
        lab.up("eth1")
        ((frame, stamp_ns),) = ask(prober, WATCHERS[4], asking, FAR_V4)
        assert frame[:6] == asking
        assert stamp_ns is not None
    assert asking.hex(":") not in lab.far.check_output(["ip", "neigh"])


def test_a_solicitation_is_answered_to_the_link_local_address_of_its_mac(lab: Lab) -> None:
    asking = bytes.fromhex("0600000000aa")
    with port(lab, asking) as prober:
        lab.up("eth1")
        ((frame, _),) = ask(prober, WATCHERS[6], asking, FAR_V6)
        assert frame[:6] == asking


def test_the_filter_lets_answers_through_and_nothing_else(lab: Lab) -> None:
    """What comes before the answer, on a wire that carries broadcasts and group traffic, is not there."""
    asking = bytes.fromhex("0600000000aa")
    with port(lab, asking) as prober, raw(lab.far, "eth0") as far:
        lab.up("eth1")
        for ethertype in (0x0800, 0x0806, 0x86DD, 0x88B5):
            far.send(bytes(10) + b"\xff" * 6 + bytes(6) + ethertype.to_bytes(2) + bytes(60))
        ((frame, _),) = ask(prober, WATCHERS[4], asking, FAR_V4)
        assert WATCHERS[4].answer(frame) is not None


def test_a_port_of_a_bridge_that_is_down_still_tells_a_socket_that_hears_everything(lab: Lab) -> None:
    asking = bytes.fromhex("0600000000aa")
    lab.host.check_output(["ip", "link", "add", "brk", "type", "bridge"])
    lab.host.check_output(["ip", "link", "set", "eth1", "master", "brk"])
    with port(lab, asking) as prober:
        lab.up("eth1")
        assert ask(prober, WATCHERS[4], asking, FAR_V4)


def test_a_second_unicast_mac_is_told_to_the_link(lab: Lab) -> None:
    """A link without a filter for it hears everything then (__dev_set_rx_mode() in net/core/dev.c)."""
    lab.up("eth1")
    with port(lab, bytes.fromhex("0600000000aa")):
        assert ip_link(lab.host, "eth1")["promiscuity"] == 1
    assert ip_link(lab.host, "eth1")["promiscuity"] == 0


def port(lab: Lab, mac: bytes) -> Any:
    link = Link(ifindex=lab.host.index_of("eth1"), name="eth1", mac=lab.mac)
    patterns = [watcher.pattern for watcher in WATCHERS.values()]
    return contextlib.closing(lab.host.run(SocketPort, link, mac, patterns))


def ask(prober: SocketPort, watcher: Watcher, mac: bytes, address: str) -> list[tuple[bytes, int | None]]:
    """Ask until there is an answer; return all that has arrived with it."""
    found: list[tuple[bytes, int | None]] = []

    def answered() -> bool:
        if prober.send(watcher.probe(mac, ip_address(address).packed)) is not None:
            found.extend(prober.receive())
        return bool(found)

    wait_until(answered, what="an answer")
    return found[:1]
