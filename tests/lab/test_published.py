"""What a running failover shows: status in each format, stats, events, its state as files, its metrics.

host: tb0 ══ eth1 primary ── sw1 ┐
          ══ eth0 standby ── sw0 ┴ bridge ── far
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from observe import Start, everything, link_names
from prometheus_client.parser import text_string_to_metric_families as parse

from tapbond.lab import FAR_V4, Lab, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

NAMED = ("--standby", "eth0", "--primary", "eth1")
URL = "http://127.0.0.1:9199/metrics"
TAPBOND = [sys.executable, "-m", "tapbond"]


@pytest.fixture
def run(lab: Lab, tmp_path: Path) -> Callable[..., str]:
    """Run a tapbond command in the host and return what it prints."""
    return lambda *arguments: lab.host.check_output([*TAPBOND, *arguments, "--run-dir", str(tmp_path)])


def refusal(lab: Lab, run_dir: Path, *arguments: str) -> str:
    """Run tapbond in the host, which must refuse with one line; return that line."""
    command = [*TAPBOND, *arguments, "--run-dir", str(run_dir)]
    process = lab.host.spawn(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 1, text
    assert text.count("\n") == 1, text
    return text.strip()


def scrape(lab: Lab) -> dict[str, float]:
    """Return the samples by name and labels, as Prometheus would write them."""
    found = {}
    text = lab.host.run(lambda: urllib.request.urlopen(URL, timeout=10).read().decode())
    for family in parse(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def fail(lab: Lab, process: FailoverProcess) -> None:
    lab.down("eth1")
    wait_until(lambda: process.status().active == "eth0", what="the standby")


def test_formats_follow_a_failover(lab: Lab, start: Start, run: Callable[..., str]) -> None:
    process = start(lab, *NAMED)
    wait_until(lambda: process.status().active == "eth1", what="the primary")
    text = run("status", "tb0", "--format", "procfs")
    assert "\nCurrently Active Slave: eth1\nMII Status: up\nMII Polling Interval (ms): 10\n" in text
    assert re.search(r"\n\nSlave Interface: eth1\nMII Status: up\nSpeed: \d+ Mbps\nDuplex: full\n", text)
    fail(lab, process)
    text = run("status", "tb0", "--format", "procfs")
    assert (
        "\nPrimary Slave: eth1 (primary_reselect always)\nCurrently Active Slave: eth0\nMII Status: up\n" in text
    )
    assert re.search(r"\nSlave Interface: eth1\nMII Status: down\n(.+\n)+Link Failure Count: 1\n", text)
    state = json.loads(run("status", "tb0", "--format", "teamd"))
    assert state["runner"]["active_port"] == "eth0"
    assert state["setup"]["pid"] == process.process.pid
    assert state["ports"]["eth1"]["link"]["up"] is False
    assert state["ports"]["eth1"]["link_watches"]["list"]["link_watch_0"]["down_count"] == 1
    assert run("status", "--brief").split()[:4] == ["tb0", "UP", "eth0", "<eth0=up,eth1=down>"]
    table = run("status", "tb0")
    assert "tapbond mode active-backup active_slave eth0 primary eth1 primary_reselect always\n" in table
    assert "\x1b" not in table


def test_stats_as_ethtool_has_them(lab: Lab, start: Start, run: Callable[..., str]) -> None:
    start(lab, *NAMED)
    lab.host.check_output(["ping", "-c2", "-i0.2", str(FAR_V4)])
    text = run("stats", "tb0")
    assert text.startswith("NIC statistics:\n     tx_frames: ")
    found = json.loads(run("stats", "--json"))
    assert found["name"] == "tb0"
    assert found["eth1_tx_frames"] >= 2
    assert found["tx_frames"] >= found["eth1_tx_frames"]


def test_events_that_were_and_that_come(lab: Lab, start: Start, run: Callable[..., str], tmp_path: Path) -> None:
    process = start(lab, *NAMED)
    command = [*TAPBOND, "events", "tb0", "--follow", "--json", "--run-dir", str(tmp_path)]
    follower = lab.host.spawn(command, stdout=subprocess.PIPE, text=True)
    fail(lab, process)
    lab.up("eth1")
    wait_until(lambda: process.status().active == "eth1", what="the primary again")
    wait_until(lambda: len(run("events", "tb0").splitlines()) >= 3, what="three records")
    assert "eth1 -> eth0: set down (seen by " in run("events", "tb0")
    records = [json.loads(line) for line in run("events", "tb0", "--json").splitlines()]
    assert [record["serial"] for record in records] == list(range(1, len(records) + 1))
    process.stop()
    out, _ = follower.communicate(timeout=10)
    followed = [json.loads(line)["serial"] for line in out.splitlines()]
    assert followed == list(range(1, len(followed) + 1))
    assert len(followed) >= len(records)


def test_names_given_wrong(lab: Lab, start: Start, tmp_path: Path) -> None:
    for command in ("status", "stats"):
        nobody = "tapbond: no failover runs in this network namespace"
        assert refusal(lab, tmp_path, command) == nobody
        assert refusal(lab, tmp_path, command, "tb9") == (
            "tapbond: tb9: no such failover runs in this network namespace (running: none)"
        )
    start(lab, *NAMED)
    for arguments in (("status", "tb9", "--format", "procfs"), ("stats", "tb9"), ("events", "tb9", "-f")):
        assert refusal(lab, tmp_path, *arguments) == (
            "tapbond: tb9: no such failover runs in this network namespace (running: tb0)"
        )


def test_two_of_them(lab: Lab, start: Start, run: Callable[..., str]) -> None:
    start(lab, *NAMED)
    start(lab, "--mac", "02:00:00:00:00:99", name="tb1", wait=False)  # whose links may still come
    wait_until(lambda: "tb1" in run("status", "--brief"), what="the second")
    assert [line.split()[0] for line in run("status", "--brief").splitlines()] == ["tb0", "tb1"]
    assert run("status", "--format", "procfs").count("Ethernet Channel Bonding Driver: v") == 2
    assert [line for line in run("stats").splitlines() if "NIC statistics" in line] == [
        "tb0: NIC statistics:",
        "tb1: NIC statistics:",
    ]


def test_state_as_files(lab: Lab, start: Start, run: Callable[..., str], tmp_path: Path) -> None:
    process = start(lab, *NAMED)

    def net() -> Path:
        return next(tmp_path.glob("net-*/tb0.state")) / "sys/class/net"

    def fact(path: str) -> str:
        return (net() / path).read_text().strip()

    wait_until(lambda: list(tmp_path.glob("net-*/tb0.state/sys/class/net/tb0/bonding/slaves")), what="the files")
    wait_until(lambda: fact("tb0/bonding/active_slave") == "eth1", what="the primary in them")
    assert fact("bonding_masters") == "tb0"
    assert sorted(fact("tb0/bonding/slaves").split()) == ["eth0", "eth1"]
    fail(lab, process)
    wait_until(lambda: fact("tb0/bonding/active_slave") == "eth0", what="the standby in them")
    wait_until(lambda: fact("tb0/lower_eth1/bonding_slave/mii_status") == "down", what="the loss in them")
    wait_until(
        lambda: (net().parents[2] / "proc/net/bonding/tb0").read_text() == run("status", "--format", "procfs"),
        what="the same as the command prints",
    )
    lab.unplug("eth1")
    wait_until(lambda: not (net() / "tb0/lower_eth1").exists(), what="its files gone with it")
    process.stop()
    assert list(tmp_path.glob("net-*/tb0.state")) == []


def test_files_of_one_that_was_killed_are_removed(
    lab: Lab, start: Start, run: Callable[..., str], tmp_path: Path
) -> None:
    process = start(lab, *NAMED)
    wait_until(lambda: list(tmp_path.glob("net-*/tb0.state/sys")), what="the files")
    process.stop(signal.SIGKILL)
    run("restore", "tb0")
    assert list(tmp_path.glob("net-*/tb0.state")) == []


def test_metrics_of_a_live_failover(lab: Lab, start: Start) -> None:
    process = start(lab, *NAMED, "--metrics", "9199", "--probe", FAR_V4, "--probe-interval", "20")
    lab.host.check_output(["ping", "-c2", "-i0.2", str(FAR_V4)])
    before = scrape(lab)
    assert before["tapbond_slaves{master=tb0}"] == 2
    assert before["tapbond_active{master=tb0,slave=eth1}"] == 1
    assert before["tapbond_tx_packets_total{master=tb0,slave=eth1}"] >= 2
    rtt = f"tapbond_probe_rtt_seconds{{master=tb0,slave=eth1,target={FAR_V4}}}"
    wait_until(lambda: 0 < scrape(lab).get(rtt, 0) < 10, what="a round-trip time")
    fail(lab, process)
    wait_until(lambda: scrape(lab)["tapbond_active{master=tb0,slave=eth0}"] == 1, what="the standby")
    record = "tapbond_switchovers_total{from=eth1,master=tb0,reason=set_down,to=eth0}"
    wait_until(lambda: scrape(lab).get(record) == 1, what="its record, counted")
    after = scrape(lab)
    assert after["tapbond_slave_up{master=tb0,role=primary,slave=eth1}"] == 0
    assert after["tapbond_switchover_seconds_count{master=tb0}"] >= 2
    sums = [after[name] >= before.get(name, 0) for name in after if "_total{" in name]
    assert all(sums)
    assert any(name.startswith("tapbond_build_info{") for name in after)
    assert process.stop() == 0


def test_metrics_file(lab: Lab, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tb0.prom"
    process = start(lab, *NAMED, "--metrics-file", str(path))
    wait_until(lambda: path.exists() and 'tapbond_active{master="tb0",slave="eth1"} 1.0' in path.read_text())
    fail(lab, process)
    wait_until(lambda: 'tapbond_active{master="tb0",slave="eth0"} 1.0' in path.read_text(), what="it at once")
    wait_until(lambda: 'from="eth1"' in path.read_text(), what="the record, when it is complete")
    names = {family.name for family in parse(path.read_text())}
    assert "tapbond_switchover_seconds" in names
    assert process.stop() == 0
    assert not path.exists()


def test_what_metrics_cannot_be_refuses_the_start(lab: Lab, tmp_path: Path) -> None:
    before = everything(lab.host)

    def refused(*options: str) -> str:
        line = refusal(lab, tmp_path, "run", "tb0", *NAMED, *options)
        assert everything(lab.host) == before
        return line

    assert refused("--metrics", "70000").startswith("tapbond: --metrics 70000: 70000 is no port from 1 to 65535")
    assert refused("--metrics", "192.0.2.200:9199").startswith(
        "tapbond: --metrics 192.0.2.200:9199: Cannot assign requested address"
    )
    assert refused("--metrics-file", "/nowhere/x.prom") == (
        "tapbond: --metrics-file /nowhere/x.prom: /nowhere is no folder"
    )
    with lab.host.run(taken) as _listener:
        assert refused("--metrics", "9199") == (
            "tapbond: --metrics 127.0.0.1:9199: Address already in use (choose another address or port)"
        )
    assert "tb0" not in link_names(lab.host)


def taken() -> socket.socket:
    return socket.create_server(("127.0.0.1", 9199))


@contextmanager
def slowloris(lab: Lab, number: int) -> Iterator[None]:
    """So many clients that begin a request and never end it."""

    def begin() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", 9199), timeout=10)
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-")
        return client

    clients = [lab.host.run(begin) for _ in range(number)]
    try:
        yield
    finally:
        for client in clients:
            client.close()


def test_slow_clients_of_the_metrics_delay_no_switchover(lab: Lab, start: Start) -> None:
    process = start(lab, *NAMED, "--metrics", "127.0.0.1:9199")
    with slowloris(lab, 100):
        assert scrape(lab)["tapbond_slaves{master=tb0}"] == 2
        fail(lab, process)
        lab.host.check_output(["ping", "-c1", str(FAR_V4)])
        wait_until(lambda: scrape(lab)["tapbond_active{master=tb0,slave=eth0}"] == 1, what="the standby there too")
        assert process.stop() == 0


def test_metrics_are_off_unless_asked_for(lab: Lab, start: Start) -> None:
    start(lab, *NAMED)
    with pytest.raises(OSError, match="refused"):
        lab.host.run(lambda: socket.create_connection(("127.0.0.1", 9199), timeout=10))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_likes_them(lab: Lab, start: Start) -> None:
    start(lab, *NAMED, "--metrics", "9199")
    text = lab.host.run(lambda: urllib.request.urlopen(URL, timeout=10).read())
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
