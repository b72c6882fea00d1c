"""Isolation netns: slaves live where nothing else sees them, and come home whatever happens.

host                 private (pinned)              switch        far
tb0 10.53.0.1 ═ tapbond ═╗
eth0 ───── moved ──────▶ eth0 (standby) ────────── sw0 ┐
eth1 ───── moved ──────▶ eth1 (primary) ────────── sw1 ┴ br0 ──── eth0 10.53.0.2
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from observe import Start, everything, ip_link, link_names, run_inside
from test_isolation import answers, is_arp_reply, is_echo_reply
from test_places import NAMED, answered, becomes_active, numbered_traffic, refusal

from tapbond import ControlError, doctor
from tapbond._core import lib
from tapbond.lab import HOST_V4, MAC, Lab, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "nft")]

PRIVATE = (*NAMED, "--isolation", "netns")


@pytest.fixture(autouse=True)
def unpinned(tmp_path: Path) -> Iterator[None]:
    """Whatever a test that failed has left."""
    yield
    for pin in tmp_path.glob("net-*/*.netns"):
        lib.tb_netns_unpin(os.fsencode(pin))


def pins(process: FailoverProcess) -> list[Path]:
    return list(process.log_path.parent.glob("net-*/*.netns"))


def unplug(lab: Lab, name: str) -> None:
    """Pull a link that is not in the host: its other end goes, and it with it."""
    lab.switch.check_output(["ip", "link", "del", "sw" + name.removeprefix("eth")])
    del lab._ports[name]


def plug(lab: Lab, name: str) -> None:
    """Let a link appear in the host, from where it may be gone in the next moment."""
    port = "sw" + name.removeprefix("eth")
    add = [
        "ip",
        "link",
        "add",
        name,
        "address",
        MAC,
        "type",
        "veth",
        "peer",
        "name",
        port,
        "netns",
        lab.switch.path,
    ]
    lab.host.check_output(add)
    lab.switch.check_output(["ip", "link", "set", port, "master", "br0", "up"])


def test_numbered_traffic_through_switchovers(lab: Lab, start: Start) -> None:
    process = start(lab, *PRIVATE)
    assert process.status().isolation == "netns"
    with numbered_traffic(lab, lab.host) as more:
        for slave in ("eth0", "eth1"):
            process.call("Switch", slave=slave)
            more()
    lab.lose_carrier("eth1")
    becomes_active(process, "eth0")
    wait_until(lambda: answered(lab.host), what="an answer over eth0")
    lab.restore_carrier("eth1")
    becomes_active(process, "eth1")
    wait_until(lambda: answered(lab.host), what="an answer over eth1")


def test_no_dhcp_client_sees_them(lab: Lab, start: Start) -> None:
    process = start(lab, *PRIVATE)
    assert link_names(lab.host) == {"lo", "tb0"}
    unplug(lab, "eth1")
    becomes_active(process, "eth0")
    plug(lab, "eth1")
    becomes_active(process, "eth1")
    assert link_names(lab.host) == {"lo", "tb0"}
    wait_until(lambda: answered(lab.host), what="an answer over eth1")


def test_one_question_one_answer(lab: Lab, start: Start) -> None:
    start(lab, *PRIVATE)
    assert answers(lab, is_echo_reply, ["ping", "-c5", "-i0.05", str(HOST_V4)]) == 5
    assert answers(lab, is_arp_reply, ["arping", "-c2", "-I", "eth0", "-b", str(HOST_V4)]) == 2


def dressed(lab: Lab) -> str:
    """Give the links something to lose; return everything."""
    lab.up("eth1")
    ip = lab.host.check_output
    ip(["ip", "link", "set", "eth0", "mtu", "1400"])
    ip(["ip", "link", "set", "eth1", "alias", "uplink"])
    ip(["ip", "link", "property", "add", "dev", "eth1", "altname", "port7"])
    ip(["ip", "addr", "add", "192.0.2.9/24", "dev", "eth1"])
    ip(["ip", "addr", "add", "2001:db8::9/64", "dev", "eth1", "nodad"])
    wait_until(lambda: "fe80" in ip(["ip", "addr", "show", "eth1"]), what="a link-local address")
    wait_until(lambda: "tentative" not in ip(["ip", "addr"]), what="its duplicate check")
    return found(lab)


def found(lab: Lab) -> str:
    """Everything; the order of addresses is that in which they were given."""
    text = re.sub(r" nodad", "", everything(lab.host))
    return "\n".join(sorted(text.splitlines()))


def test_sigterm_leaves_everything_as_it_was(lab: Lab, start: Start) -> None:
    before = dressed(lab)
    process = start(lab, *PRIVATE)
    assert pins(process)
    wait_until(lambda: answered(lab.host), what="an answer")
    assert process.stop() == 0
    wait_until(lambda: found(lab) == before, what="the links as they were")
    assert not pins(process)


def test_killed_and_started_again(lab: Lab, start: Start) -> None:
    before = dressed(lab)
    process = start(lab, *PRIVATE)
    process.stop(signal.SIGKILL)
    wait_until(lambda: link_names(lab.host) == {"lo"}, what="the TAP to be gone")
    process = start(lab, *PRIVATE)
    assert process.log.count("bringing home a slave of an earlier run") == 2
    wait_until(lambda: answered(lab.host), what="an answer")
    assert process.stop() == 0
    wait_until(lambda: found(lab) == before, what="the links as they were")
    assert not pins(process)


def test_killed_and_started_again_with_another_isolation(lab: Lab, start: Start) -> None:
    before = dressed(lab)
    process = start(lab, *PRIVATE)
    process.stop(signal.SIGKILL)
    process = start(lab, *NAMED, "--isolation", "bridge")
    assert not pins(process)
    wait_until(lambda: answered(lab.host), what="an answer")
    assert process.stop() == 0
    wait_until(lambda: found(lab) == before, what="the links as they were")


def test_killed_at_any_moment_of_the_start(lab: Lab, start: Start) -> None:
    before = dressed(lab)
    for step in ("pin", "eth0", "eth1", "tb0", "more"):
        process = start(lab, *PRIVATE, wait=False)
        if step == "pin":
            wait_until(lambda process=process: pins(process), what="the pin")
        elif step.startswith("eth"):
            wait_until(lambda step=step: step not in link_names(lab.host), what=f"{step} to be taken")
        else:
            wait_until(lambda: "tb0" in link_names(lab.host), what="the TAP")
        process.stop(signal.SIGKILL)
    process = start(lab, *PRIVATE)
    wait_until(lambda: answered(lab.host), what="an answer")
    assert process.stop() == 0
    wait_until(lambda: found(lab) == before, what="the links as they were")
    assert not pins(process)


def test_a_pin_that_may_end_with_the_process_is_warned_of(lab: Lab, tmp_path: Path) -> None:
    """``unshare -m``: nobody else has these mounts."""
    before = dressed(lab)
    read, write = os.pipe()
    run = [sys.executable, "-m", "tapbond", "run", "tb0", *PRIVATE, "--run-dir", str(tmp_path)]
    command = ["unshare", "-m", *run, "--ready-fd", str(write)]
    process = lab.host.spawn(command, pass_fds=[write], stderr=subprocess.PIPE, text=True)
    os.close(write)
    try:
        assert os.read(read, 16) == b"1\n"
    finally:
        os.close(read)
        process.terminate()
        _, text = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "virtual slaves are lost if this process is killed" in text
    wait_until(lambda: found(lab) == before, what="the links as they were")


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_each_comes_home_with_its_own_mac(lab: Lab, start: Start, end: str) -> None:
    lab.host.check_output(["ip", "link", "set", "eth1", "address", "02:00:00:00:00:31", "mtu", "1400"])
    before = dressed(lab)
    process = start(lab, *PRIVATE, "--mac-policy", "set")
    wait_until(lambda: answered(lab.host), what="an answer")
    lab.host.check_output(["ip", "link", "set", "tb0", "address", "02:00:00:00:00:99"])
    wait_until(
        lambda: {slave.mac for slave in process.status().slaves} == {"02:00:00:00:00:99"}, what="another MAC"
    )
    if end == "killed":
        process.stop(signal.SIGKILL)
        process = start(lab, *PRIVATE, "--mac-policy", "set")
    assert process.stop() == 0
    assert "not put back" not in process.log
    wait_until(lambda: found(lab) == before, what="the links as they were")
    assert not pins(process)


def test_a_name_that_was_taken_meanwhile(lab: Lab, start: Start) -> None:
    process = start(lab, *PRIVATE)
    lab.host.check_output(["ip", "link", "add", "eth1", "type", "bridge"])
    assert process.stop() == 0
    assert "a slave comes home under another name" in process.log
    (other,) = link_names(lab.host) - {"lo", "eth0", "eth1"}
    assert re.fullmatch(r"dev\d+", other)
    assert ip_link(lab.host, other)["address"] == MAC


def test_an_ifindex_that_was_taken_meanwhile(lab: Lab, start: Start) -> None:
    """A link gets the ifindex that eth1 had: it is none of ours, and is left alone."""
    index = lab.host.index_of("eth1")
    process = start(lab, *PRIVATE)
    lab.host.check_output(["ip", "link", "add", "br7", "index", str(index), "type", "bridge"])
    lab.host.check_output(["ip", "link", "set", "br7", "up"])
    lab.host.check_output(["ip", "link", "set", "br7", "down"])
    assert [slave.ifindex for slave in process.status().slaves if slave.name == "eth1"] == [index]
    lab.host.check_output(["ip", "link", "del", "br7"])
    wait_until(lambda: answered(lab.host), what="an answer")
    assert process.status().active == "eth1"
    lab.host.check_output(["ip", "link", "add", "br7", "index", str(index), "mtu", "1300", "type", "bridge"])
    before = ip_link(lab.host, "br7")
    assert process.stop() == 0
    assert link_names(lab.host) == {"lo", "eth0", "eth1", "br7"}
    assert ip_link(lab.host, "br7") == before


def test_removed_by_hand_and_added_again(lab: Lab, start: Start) -> None:
    process = start(lab, *PRIVATE)
    process.call("RemoveSlave", slave="eth1")
    assert link_names(lab.host) == {"lo", "tb0", "eth1"}
    lab.up("eth1")
    wait_until(lambda: answered(lab.host), what="an answer over eth0")
    assert [slave.name for slave in process.status().slaves] == ["eth0"]
    with pytest.raises(ControlError, match="attempting to register as standby when eth0 is already present"):
        process.call("AddSlave", link="eth1", role="standby")
    process.call("AddSlave", link="eth1", role="primary")
    becomes_active(process, "eth1")
    assert link_names(lab.host) == {"lo", "tb0"}


def test_moved_out_of_it_is_unplugged(lab: Lab, start: Start) -> None:
    process = start(lab, *PRIVATE)
    (pin,) = pins(process)
    with lab.far.spawn(["sleep", "60"]) as sleeper:
        lab.host.check_output(["nsenter", f"--net={pin}", "ip", "link", "set", "eth1", "netns", str(sleeper.pid)])
        wait_until(lambda: [slave.name for slave in process.status().slaves] == ["eth0"], what="eth1 to be gone")
        wait_until(lambda: answered(lab.host), what="an answer over eth0")
        sleeper.kill()


def test_a_link_that_cannot_be_moved_is_refused_once(lab: Lab, start: Start) -> None:
    """A bridge may not leave its namespace (dev->netns_immutable)."""
    process = start(lab, "--standby", "eth0", "--isolation", "netns", "--mac", MAC)
    lab.host.check_output(["ip", "link", "add", "br9", "address", "02:00:00:00:00:77", "type", "bridge"])
    with pytest.raises(ControlError, match="br9: "):
        process.call("AddSlave", link="br9", role="backup")
    assert "br9" in link_names(lab.host)


@pytest.mark.tools("unshare")
def test_where_nothing_can_be_mounted_it_is_refused() -> None:
    """CAP_SYS_ADMIN over the network, but not over the mounts: ``unshare -Urn`` alone."""
    with tempfile.TemporaryDirectory() as base:
        run = [sys.executable, "-m", "tapbond", "run", "tb0", "--mac", MAC, "--isolation", "netns"]
        done = subprocess.run(
            ["unshare", "-Urn", *run, "--run-dir", base], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "cannot mount a network namespace: not permitted (needs CAP_SYS_ADMIN" in done.stderr
        assert "--isolation bridge" in done.stderr
        assert not list(Path(base).glob("net-*/*.netns"))


@pytest.mark.tools("unshare")
def test_as_root_of_a_user_namespace_with_mounts_of_its_own() -> None:
    chosen = "sigterm_leaves or killed_and_started_again or numbered"
    assert "4 passed" in run_inside("-Urnm", __file__, chosen)


def test_the_doctor_tries_it(tmp_path: Path) -> None:
    findings = {finding.what: finding for finding in doctor.run(tmp_path)}
    assert findings["isolation netns"].ok
    assert not list(tmp_path.glob("net-*"))


def test_it_is_not_for_slaves_that_are_elsewhere_already(lab: Lab, tmp_path: Path) -> None:
    line = refusal(lab.host, *PRIVATE, "--slave-netns", lab.far.path, "--run-dir", str(tmp_path))
    assert "--isolation netns does not go with --slave-netns" in line
