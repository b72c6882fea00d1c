"""``tapbond bench`` as a program, with tiny figures: its networks are in tapbond/bench/subjects.py.

Nothing here asserts a speed: a flood may starve whatever shares two processors with it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tapbond.bench import openvswitch, outages
from tapbond.bench.crowd import measure_one_process, measure_process_each
from tapbond.bench.offload import send_plainly
from tapbond.bench.subjects import Site
from tapbond.lab import FAR_V4, Lab, Pair, UdpFlow, total, wait_until
from tapbond.lab.echo import Echo
from tapbond.lab.flood import Flood

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(180)]

DEADLINE_S = 120.0
BENCH = (sys.executable, "-m", "tapbond", "bench", "--rounds", "1", "--seconds", "0.1", "--repetitions", "1")
BR_STATE_DISABLED = 0


@contextmanager
def running(tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen([*BENCH, *options], env=env, stdout=pipe, stderr=pipe, text=True) as bench:
        try:
            yield bench
        finally:
            bench.kill()


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tbtest") as made:
        yield Path(made)


def descendants(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            children += map(int, task.read_text().split())
    return [found for child in children for found in (child, *descendants(child))]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def values(data: dict[str, Any], load: str, subject: str, metric: str) -> list[list[float]]:
    return [
        series["values"]
        for series in data["series"]
        if (series["load"], series["subject"], series["metric"]) == (load, subject, metric)
    ]


def test_a_bench_measures_and_writes_what_it_found(short_path: Path) -> None:
    files = {kind: short_path / f"bench.{kind}" for kind in ("json", "markdown")}
    outputs = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    subjects = ["veth", "bridge", "tapbond", "python"]
    with running(
        short_path, "--subjects", ",".join(subjects), "--loads", "udp60,gso,rr-busy,failover", *outputs
    ) as bench:
        out, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 0, err
    data = json.loads(files["json"].read_text())
    assert data["skipped"] == []
    assert data["machine"]["cpus"] >= 1
    for subject in subjects:
        to_far, from_far = values(data, "udp60", subject, "frames/s")
        assert len(to_far) == len(from_far) == 1
        assert min(to_far + from_far) >= 0
        (median,) = values(data, "rr-busy", subject, "p50 µs")
        assert 0 < median[0] < 1e6
        assert values(data, "gso", subject, "Gbit/s")
    assert min(found for (found,) in values(data, "udp60", "bridge", "frames/s")) > 0
    check_trials(data["trials"])
    assert files["markdown"].read_text() == out
    assert "| tapbond, copy path: primary unplugged" in out


def check_trials(trials: list[dict[str, Any]]) -> None:
    events = {trial["event"] for trial in trials if trial["subject"] == "tapbond"}
    assert {"primary-down", "unplug", "carrier-lost", "switch", "silent", "undisturbed"} <= events
    assert {trial["alone"] for trial in trials} == {"", "netlink", "poll", "pump"}
    for trial in trials:
        assert trial["switched"], trial
        assert (trial["to_far"]["sent"] > 0) == (trial["alone"] not in ("netlink", "poll")), trial
        assert trial["from_far"]["sent"] > 0
        assert trial["to_far"]["duplicated"] == 0, trial
    assert {trial["event"] for trial in trials if trial["subject"] == "bridge"} == {"undisturbed", "quiet"}


@pytest.mark.tools("iperf3")
def test_tcp_is_measured_both_ways(short_path: Path) -> None:
    file = short_path / "bench.json"
    with running(short_path, "--subjects", "bridge,tapbond", "--loads", "tcp", "--json", str(file)) as bench:
        _, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 0, err
    data = json.loads(file.read_text())
    for subject in ("bridge", "tapbond"):
        assert all(found > 0 for (found,) in values(data, "tcp", subject, "Gbit/s"))


@pytest.mark.skipif(openvswitch.missing() is not None, reason=str(openvswitch.missing()))
def test_open_vswitch_runs_in_a_folder_of_its_own(short_path: Path) -> None:
    file = short_path / "bench.json"
    with running(short_path, "--subjects", "ovs,ovs-tso", "--loads", "udp60,rr", "--json", str(file)) as bench:
        _, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 0, err
    data = json.loads(file.read_text())
    assert data["skipped"] == []
    for subject in ("ovs", "ovs-tso"):
        assert len(values(data, "udp60", subject, "frames/s")) == len(("to far", "from far"))
        assert values(data, "rr", subject, "p50 µs")[0][0] > 0


def lines_until(bench: subprocess.Popen[str], word: str) -> None:
    assert bench.stderr is not None
    while word not in (line := bench.stderr.readline()).lower():
        assert line, "it ended early"


def test_ctrl_c_takes_everything_down(short_path: Path) -> None:
    with running(short_path, "--subjects", "tapbond,python", "--loads", "udp60", "--rounds", "1000") as bench:
        lines_until(bench, "python")
        wait_until(lambda: len(descendants(bench.pid)) >= 2, DEADLINE_S, "both processes")
        children = descendants(bench.pid)
        bench.send_signal(signal.SIGINT)
        _, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 130
    assert err.splitlines()[-1].startswith("tapbond: interrupted; everything is taken down")
    assert "Traceback" not in err
    wait_until(lambda: not any(map(runs, children)), DEADLINE_S, "the end of what it had started")


def test_what_was_measured_before_ctrl_c_is_written(short_path: Path) -> None:
    file = short_path / "bench.json"
    options = ("--subjects", "bridge", "--loads", "rr", "--rounds", "1000", "--json", str(file))
    with running(short_path, *options) as bench:
        lines_until(bench, "round 1 of")
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 130
    assert err.splitlines()[-1].startswith("tapbond: interrupted; everything is taken down")
    data = json.loads(file.read_text())
    assert data["partial"] == "interrupted"
    assert values(data, "rr", "bridge", "p50 µs")[0][0] > 0
    assert "- **partial: interrupted**" in out


def test_what_was_measured_before_tapbond_ended_is_written(short_path: Path) -> None:
    file = short_path / "bench.json"
    options = ("--subjects", "bridge,tapbond", "--loads", "rr", "--rounds", "1000", "--json", str(file))
    with running(short_path, *options) as bench:
        lines_until(bench, "round 1 of")
        for pid in descendants(bench.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 1
    assert err.splitlines()[-1].startswith("tapbond: tapbond, rr round trip: ")
    assert "Traceback" not in err
    data = json.loads(file.read_text())
    assert data["partial"] == err.splitlines()[-1].removeprefix("tapbond: ")
    assert values(data, "rr", "tapbond", "p50 µs")[0][0] > 0


@pytest.mark.parametrize(("detector", "events"), outages.ALONE.items())
def test_each_detector_of_the_copy_path_does_by_itself(detector: str, events: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        arena = outages.build_alone(Site(stack, 1500, ()), detector)
        arena.wait_reachable()
        for _ in range(2):  # what was undone may happen again
            trials = arena.play(0, 1000)
            assert [trial.event for trial in trials] == list(events)
            for trial in trials:
                assert trial.switched, trial
                assert (trial.alone, trial.detector) == (detector, detector), trial
                assert trial.from_far.recovered, trial


@pytest.mark.skipif(openvswitch.missing() is not None, reason=str(openvswitch.missing()))
def test_open_vswitch_goes_through_the_events(short_path: Path) -> None:
    file = short_path / "bench.json"
    with running(short_path, "--subjects", "ovs-tso", "--loads", "failover", "--json", str(file)) as bench:
        _, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 0, err
    data = json.loads(file.read_text())
    assert data["skipped"] == []
    found = {trial["event"]: trial for trial in data["trials"] if trial["subject"] == "ovs-tso"}
    assert {"primary-down", "carrier-lost", "switch", "unplug"} <= set(found)
    assert all(trial["switched"] for trial in found.values()), found


def test_what_tapbond_run_refuses_is_one_line(short_path: Path) -> None:
    with running(
        short_path, "--subjects", "tapbond", "--loads", "udp60", "--tapbond-options", "--no-such"
    ) as bench:
        out, err = bench.communicate(timeout=DEADLINE_S)
    assert (bench.returncode, out) == (1, "")
    assert err.splitlines()[-1].startswith("tapbond: tapbond run did not start: ")
    assert "Traceback" not in err


def test_a_silenced_port_keeps_its_carrier_and_lets_nothing_pass(lab: Lab) -> None:
    lab.up("eth1")
    index = lab.host.index_of("eth1")

    def carrier() -> bool:
        (link,) = lab.host.netlink(lambda ipr: ipr.get_links(index))
        return bool(link.get("carrier"))

    wait_until(carrier, what="the carrier")
    before = port_state(lab)
    lab.silence("eth1")
    assert port_state(lab) == BR_STATE_DISABLED
    assert carrier()
    lab.heal("eth1")
    assert port_state(lab) == before


def test_no_link_has_the_index_of_its_peer(lab: Lab) -> None:
    """Else the kernel may hold its carrier events back, and the switch's port stays closed (link_watch.c)."""
    for _ in range(8):
        assert lab.host.index_of("eth1") != lab.switch.index_of("sw1")
        lab.unplug("eth1")
        lab.plug("eth1")


def port_state(lab: Lab) -> int:
    def ask(ipr: Any) -> int:
        (port,) = [port for port in ipr.get_links() if port.get("ifname") == "sw1"]
        data = port.get("linkinfo").get("slave_data")
        return int(data.get("state"))

    return lab.switch.netlink(ask)


def test_flood_and_echo_count_what_arrives() -> None:
    with Pair(bridge=True) as pair:
        with Echo(pair.host, pair.far, FAR_V4, 5501, trips_max=50) as echo:
            wait_until(lambda: echo.trips == 50)
            assert len(echo.trips_ns()) == 50
            assert all(trip > 0 for trip in echo.trips_ns())
        with Flood(pair.host, pair.far, FAR_V4, 5502, size=100) as flood:
            wait_until(lambda: flood.state().received >= 100 * 1000)
            found = flood.state()
        assert found.received % 100 == 0
        assert found.tx_cpu_ns > 0
        assert found.rx_cpu_ns > 0


def test_segmented_sends_arrive_as_datagrams() -> None:
    with Pair() as pair, Flood(pair.host, pair.far, FAR_V4, 5503, size=1472, segment=40) as flood:
        wait_until(lambda: flood.state().received >= 1472 * 40)
        assert flood.state().sent % 40 == 0


def test_a_plain_cable_carries_datagrams_too(lab: Lab) -> None:
    send_plainly(lab.switch, "sw1")
    with Pair() as pair:
        send_plainly(pair.host, "eth0")
        with UdpFlow(pair.host, pair.far, FAR_V4, 5504, rate=1000, seconds_max=5) as flow:
            flow.start()
            wait_until(lambda: flow.received >= 20)
        assert total(flow.record()).duplicated == 0


@pytest.mark.parametrize("measure", [measure_one_process, measure_process_each])
def test_a_crowd_leaves_its_dead_switch(measure: Any) -> None:
    found = measure(3, 0.2)
    assert found.count == 3
    assert 0 < found.switched_ms.low <= found.switched_ms.high
    assert found.pss_mib > 0
    assert found.create_ms > 0
