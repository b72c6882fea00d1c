"""Start, stop, be killed, be run twice: nothing is left, nothing stands in the way."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from observe import Start, everything, ip_link, link_names

from tapbond.lab import FAR_V4, Lab, wait_until

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "nft")]

NAMED = ("--standby", "eth0", "--primary", "eth1")


def refusal(lab: Lab, *arguments: str) -> str:
    """Run tapbond in the host, which must refuse with one line; return that line."""
    process = lab.host.spawn(
        [sys.executable, "-m", "tapbond", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    _, text = process.communicate(timeout=20)
    assert process.returncode == 1, text
    assert text.count("\n") == 1, text
    return text.strip()


def test_sigterm_leaves_everything_as_it_was(lab: Lab, start: Start, isolation: str) -> None:
    lab.up("eth1")
    lab.host.check_output(["ip", "link", "set", "eth0", "mtu", "1400"])
    lab.host.check_output(["ip", "addr", "add", "192.0.2.9/24", "dev", "eth1"])
    wait_until(
        lambda: "fe80" in lab.host.check_output(["ip", "addr", "show", "eth1"]), what="a link-local address"
    )
    wait_until(lambda: "tentative" not in lab.host.check_output(["ip", "addr"]), what="its duplicate check")
    before = everything(lab.host)
    process = start(lab, *NAMED, "--isolation", isolation)
    assert ip_link(lab.host, "eth1")["mtu"] == 1400
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])
    assert process.stop() == 0
    wait_until(lambda: everything(lab.host) == before, what="the link as it was, its duplicate check over")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stop_at_any_moment_of_the_start(lab: Lab, start: Start, how: signal.Signals) -> None:
    before = everything(lab.host)
    for step in ("lock", "tb0-iso", "tb0"):
        process = start(lab, *NAMED, wait=False)
        lock = Path(process.log_path.parent)
        if step == "lock":
            wait_until(lambda lock=lock: list(lock.glob("net-*/tb0.lock")), what="the lock")
        else:
            wait_until(lambda step=step: step in link_names(lab.host), what=step)
        assert process.stop(how) == 0, process.log
        assert everything(lab.host) == before


def test_kill_and_run_again(lab: Lab, start: Start, isolation: str) -> None:
    before = everything(lab.host)
    process = start(lab, *NAMED, "--isolation", isolation)
    process.stop(signal.SIGKILL)
    assert ip_link(lab.host, "eth1")["inet6_addr_gen_mode"] == "none"
    again = start(lab, *NAMED, "--isolation", isolation)
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])
    assert again.stop() == 0
    assert everything(lab.host) == before


def test_kill_and_run_with_another_isolation(lab: Lab, start: Start) -> None:
    before = everything(lab.host)
    start(lab, *NAMED, "--isolation", "bridge").stop(signal.SIGKILL)
    again = start(lab, *NAMED, "--isolation", "nft")
    assert "tb0-iso" not in link_names(lab.host)
    again.stop()
    assert everything(lab.host) == before


def test_destroy_ends_the_process(lab: Lab, start: Start) -> None:
    process = start(lab)
    process.call("Destroy")
    assert process.process.wait(10) == 0
    assert link_names(lab.host) == {"lo", "eth0", "eth1"}


def test_two_of_one_name(lab: Lab, start: Start, tmp_path: Path) -> None:
    process = start(lab)
    line = refusal(lab, "run", "tb0", *NAMED, "--run-dir", str(tmp_path))
    assert line == f"tapbond: tb0: already run by process {process.process.pid} (see: tapbond status tb0)"
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])


def test_two_that_want_the_same_link(lab: Lab, start: Start, tmp_path: Path, isolation: str) -> None:
    start(lab, *NAMED, "--isolation", isolation)
    line = refusal(lab, "run", "tb1", *NAMED, "--run-dir", str(tmp_path))
    assert line.startswith("tapbond: eth0: already a ")
    assert "tb1" not in link_names(lab.host)
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("--standby", "eth7"),
            "eth7: no such interface (the standby gives the failover its MAC; --mac starts without it)",
        ),
        (("--standby", "lo"), "lo: not an Ethernet link"),
        (("--standby", "eth0", "--primary", "eth0"), "eth0: cannot be standby and primary at once"),
        (("--standby", "tb0"), "tb0: cannot be the failover and its own slave"),
        (
            ("--standby", "eth0", "--mac", "02:00:00:00:00:99"),
            (
                "eth0: its MAC 02:00:00:00:00:53 is not tb0's 02:00:00:00:00:99"
                " (ip link set eth0 address 02:00:00:00:00:99; or --mac-policy set)"
            ),
        ),
    ],
)
def test_refused_in_one_line(lab: Lab, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    before = everything(lab.host)
    assert refusal(lab, "run", "tb0", *arguments, "--run-dir", str(tmp_path)) == f"tapbond: {line}"
    assert everything(lab.host) == before


def test_a_port_of_somebody_else_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.host.check_output(["ip", "link", "add", "br7", "type", "bridge"])
    lab.host.check_output(["ip", "link", "set", "eth1", "master", "br7"])
    before = everything(lab.host)
    line = refusal(lab, "run", "tb0", *NAMED, "--run-dir", str(tmp_path))
    assert line == "tapbond: eth1: already a port of br7 (free it: ip link set eth1 nomaster)"
    assert everything(lab.host) == before


def test_a_name_that_is_taken(lab: Lab, tmp_path: Path) -> None:
    lab.host.check_output(["ip", "link", "add", "tb0", "type", "bridge"])
    before = everything(lab.host)
    assert refusal(lab, "run", "tb0", *NAMED, "--run-dir", str(tmp_path)) == (
        "tapbond: tb0: exists already and is not a TAP"
    )
    assert everything(lab.host) == before


def test_without_rights(lab: Lab, tmp_path: Path) -> None:
    line = refusal_as_nobody(lab, tmp_path)
    assert line.startswith("tapbond: ")
    assert "may not be opened" in line or "CAP_NET" in line
    assert link_names(lab.host) == {"lo", "eth0", "eth1"}


def refusal_as_nobody(lab: Lab, tmp_path: Path) -> str:
    """Run with every capability given up, where that leaves the program readable."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    process = lab.host.spawn(
        [*drop, sys.executable, "-m", "tapbond", "run", "tb0", *NAMED, "--run-dir", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    _, text = process.communicate(timeout=20)
    assert process.returncode == 1
    assert text.count("\n") == 1, text
    return text


def test_a_persistent_tap_stays(lab: Lab, start: Start) -> None:
    lab.host.check_output(["ip", "tuntap", "add", "mode", "tap", "name", "tb0", "vnet_hdr"])
    process = start(lab)
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])
    assert process.stop() == 0
    assert link_names(lab.host) == {"lo", "eth0", "eth1", "tb0"}


def test_the_tap_is_deleted(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.host.check_output(["ip", "link", "del", "tb0"])
    assert process.process.wait(10) == 1
    assert "tb0: the TAP has gone" in process.log
    assert link_names(lab.host) == {"lo", "eth0", "eth1"}


def test_no_slave_at_the_start(lab: Lab, start: Start) -> None:
    """With --mac the links may come later, in any order."""
    lab.unplug("eth0")
    lab.unplug("eth1")
    process = start(lab, "--mac", "02:00:00:00:00:53", wait=False)
    wait_until(lambda: "failover created" in process.log, what="the failover")
    assert "NO-CARRIER" in ip_link(lab.host, "tb0")["flags"]
    lab.plug("eth1")
    process.wait_ready()
    lab.plug("eth0")
    wait_until(lambda: len(process.status().slaves) == 2, what="both slaves")


def test_run_directory_of_somebody_else(lab: Lab, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345) if os.geteuid() == 0 and in_first_user_namespace() else pytest.skip(
        "needs the right to give a folder away (root outside a user namespace)"
    )
    line = refusal(lab, "run", "tb0", *NAMED, "--run-dir", str(theirs))
    assert line == f"tapbond: {theirs}: belongs to another user (choose another with --run-dir)"


def in_first_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def test_messages_name_the_failovers_that_run(lab: Lab, start: Start, tmp_path: Path) -> None:
    start(lab)
    assert refusal(lab, "status", "tb7", "--run-dir", str(tmp_path)) == (
        "tapbond: tb7: no such failover runs in this network namespace (running: tb0)"
    )
    assert refusal(lab, "switch", "tb0", "eth7", "--run-dir", str(tmp_path)) == (
        "tapbond: eth7: not a slave of tb0 (its slaves: eth0, eth1)"
    )


def test_a_process_that_was_killed_does_not_answer(lab: Lab, start: Start, tmp_path: Path) -> None:
    process = start(lab)
    process.stop(signal.SIGKILL)
    assert refusal(lab, "status", "--run-dir", str(tmp_path)) == (
        "tapbond: no failover runs in this network namespace"
    )


def test_a_log_that_nobody_reads_stops_nothing(lab: Lab, tmp_path: Path) -> None:
    """Its standard error is a pipe that is full."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    here = ["--run-dir", str(tmp_path)]
    process = lab.host.spawn([sys.executable, "-m", "tapbond", "run", "tb0", *NAMED, "-v", *here], stderr=write)
    os.close(write)

    def status() -> dict[str, Any]:
        return json.loads(lab.host.check_output([sys.executable, "-m", "tapbond", "status", "--json", *here]))

    wait_until(lambda: list(tmp_path.glob("net-*/tb0.sock")), what="the control socket")
    wait_until(lambda: status()["active"] == "eth1", what="it to run")
    for number in range(20):
        lab.down("eth1")
        wait_until(lambda: status()["active"] == "eth0", what=f"the switchover {number}")
        lab.up("eth1")
        wait_until(lambda: status()["active"] == "eth1", what=f"the way back {number}")
    process.terminate()
    assert process.wait(10) == 0
    os.close(read)
