"""One question, one answer: the slaves' own IP stack stays silent.

host                  switch        far
tb0 10.53.0.1
eth0 (standby) ──── sw0 ┐
eth1 (primary) ──── sw1 ┴ br0 ──── eth0 10.53.0.2
"""

from collections.abc import Callable

import pytest
from observe import Start, Wire, ip_link

from tapbond.lab import HOST_V4, HOST_V6, Lab, wait_until

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "arping")]

ECHO_REPLY = 0
ARP_REPLY = 2


def is_echo_reply(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[34] == ECHO_REPLY


def is_arp_reply(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x06" and frame[21] == ARP_REPLY


def answers(lab: Lab, is_answer: Callable[[bytes], bool], ask: list[str]) -> int:
    """Count the answers at the far end, those that come late included."""
    with Wire(lab.far, "eth0", is_answer) as wire:
        lab.far.check_output(ask)
        lab.far.check_output(["ping", "-c3", "-i0.05", str(HOST_V6)])  # surplus ones have come in by then
        wait_until(lambda: wire.frames, what="an answer")
    return len(wire.frames)


def test_one_ping_one_answer(lab: Lab, start: Start, isolation: str) -> None:
    start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    assert answers(lab, is_echo_reply, ["ping", "-c5", "-i0.05", str(HOST_V4)]) == 5


def test_one_arp_request_one_reply(lab: Lab, start: Start, isolation: str) -> None:
    start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    assert answers(lab, is_arp_reply, ["arping", "-c2", "-I", "eth0", "-b", str(HOST_V4)]) == 2


def test_one_answer_after_a_switchover(lab: Lab, start: Start, isolation: str) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    lab.down("eth1")
    wait_until(lambda: process.status().active == "eth0", what="the switchover")
    assert answers(lab, is_echo_reply, ["ping", "-c5", "-i0.05", str(HOST_V4)]) == 5


def test_without_isolation_arp_is_answered_twice(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", "none")
    ask = f"arping -c2 -I eth0 -b {HOST_V4} || test $? = 1"  # so many replies make it fail
    assert answers(lab, is_arp_reply, ["sh", "-c", ask]) > 2
    assert "slaves answer ARP and ping a second time" in process.log


def test_the_bridge_shows_as_master(lab: Lab, start: Start) -> None:
    start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", "bridge")
    for slave in ("eth0", "eth1"):
        assert ip_link(lab.host, slave)["master"] == "tb0-iso"
    assert "UP" not in ip_link(lab.host, "tb0-iso")["flags"]


def test_auto_says_which_kind_it_chose(lab: Lab, start: Start) -> None:
    process = start(lab)
    assert process.status().isolation == "bridge"
    assert "isolation chosen" in process.log


def test_slaves_generate_no_ipv6_address(lab: Lab, start: Start, isolation: str) -> None:
    start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    for slave in ("eth0", "eth1"):
        assert ip_link(lab.host, slave)["inet6_addr_gen_mode"] == "none"
        assert "inet6" not in lab.host.check_output(["ip", "addr", "show", slave])
