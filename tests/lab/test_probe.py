"""Paths whose carrier lies: the switch drops everything on a port, and the link stays up.

host                           switch                    far
tb0 ═ numbered UDP ═══════════════════════════════════ eth0 10.53.0.2 fd53::2 (the target of the probes)
eth0 (standby) ───────── sw0 ┐
eth1 (primary) ───────── sw1 ┴ br0 ─ swf
                          └ silent: its port is in the state "blocking", both ways
"""

import time
from collections.abc import Callable

import pytest
from observe import Start, Wire, ip_link

from tapbond import Detector
from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, HOST_V6, Lab, UdpFlow, wait_until, windows
from tapbond.lab.process import FailoverProcess
from tapbond.model import SlaveStatus

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "bridge", "ping")]

SLAVES = ("--standby", "eth0", "--primary", "eth1")
FAST = ("--probe-interval", "20", "--probe-missed", "2")
LIMIT_NS = 100_000_000
RATE = 2000
ABSENT_V4 = "10.53.0.77"

TARGETS = pytest.mark.parametrize("target", [FAR_V4, FAR_V6])
"""ARP and neighbour probes."""


def silence(lab: Lab, port: str) -> int:
    """Let the switch drop what comes in and goes out at a port, without a word to the link; return when."""
    at = time.monotonic_ns()
    lab.switch.check_output(["bridge", "link", "set", "dev", port, "state", "4"])
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


@TARGETS
def test_a_silent_path_is_left(lab: Lab, start: Start, target: str) -> None:
    process = start(lab, *SLAVES, "--probe", target, *FAST)
    heard(process, "eth0", "eth1")
    silence(lab, "sw1")
    becomes_active(process, "eth0")
    record = process.status().last_switchovers[-1]
    assert (record.cause, record.detector) == ("probes unanswered", Detector.PROBE)
    lost = slave(process, "eth1")
    assert (lost.up, lost.carrier, lost.ready, lost.answered) == (True, True, True, False)
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
    heal(lab, "sw1")
    becomes_active(process, "eth1")
    record = process.status().last_switchovers[-1]
    assert (record.cause, record.detector) == ("primary ready", Detector.PROBE)
    assert "probes go unanswered" in process.log
    assert "probes are answered again" in process.log
