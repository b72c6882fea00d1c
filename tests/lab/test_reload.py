"""Configuration files: what they start, and what a reload changes under traffic.

host                            switch              far
tb0 10.53.0.1 fd53::1                               eth0 10.53.0.2 fd53::2
eth0 (standby)           ── sw0 ┐
eth1 (primary)           ── sw1 ┼ br0 ── swf ────── eth0
eth2 (backup, or not)    ── sw2 ┘
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from observe import Start

from tapbond.lab import FAR_V4, HOST_V4, Lab, UdpFlow, total, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RATE = 10_000
TRIES = 4
"""A machine that has no processor for us for 100 ms loses frames in its queues; a lossy reload does each time."""
READ_AGAIN = "configuration read again"

Write = Callable[[str], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf" / "tb0.toml"


@pytest.fixture
def write(file: Path) -> Write:
    """Put another text into the file at once, as an editor does."""
    file.parent.mkdir()

    def write(text: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(text)
        new.rename(file)

    return write


def tapbond(lab: Lab, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = lab.host.spawn(
        [sys.executable, "-m", "tapbond", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"TAPBOND_RUN_DIR": str(tmp_path), "PATH": "/usr/bin"},
    )
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def active(process: FailoverProcess, slave: str) -> None:
    wait_until(lambda: process.status().active == slave, what=f"{slave} to be active")


def roles(process: FailoverProcess) -> dict[str, str]:
    return {slave.name: str(slave.role) for slave in process.status().slaves}


@pytest.mark.parametrize(
    "name",
    ["two-links", "two-nics", "three-paths", "probes", "net-failover", "late-standby", "adopt", "everything"],
)
def test_an_example_carries_traffic(lab: Lab, start: Start, name: str) -> None:
    lab.plug("eth2")
    path = () if name != "late-standby" else ("--datapath", "auto")  # as the file says
    process = start(lab, "--config", str(EXAMPLES / f"{name}.toml"), *path)
    assert process.status().active is not None
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def test_the_command_line_wins(lab: Lab, start: Start, file: Path, write: Write) -> None:
    write('standby = "eth1"\nmtu = 1400\nrx = "any"\n')
    process = start(lab, "--config", str(file), "--standby", "eth0", "--rx", "active")
    status = process.status()
    assert (roles(process)["eth0"], status.mtu, status.rx) == ("standby", 1400, "active")


STEPS = [
    ('standby = "eth0"\nprimary = "eth1"\nbackup = ["eth2:10"]\n', "eth1"),
    ('standby = "eth0"\nprimary = "eth2"\nbackup = ["eth1:10"]\n', "eth2"),  # roles change hands
    (
        (
            'standby = "eth0"\nprimary = "eth2"\nreselect = "failure"\nsticky = ["eth2"]\nupdelay = 20\n'
            "downdelay = 10\nhold-down = 5\npoll = 50\ndrain = 100\nannounce = 5\nannounce-interval = 30\n"
            f'probe = ["{FAR_V4}"]\nprobe-interval = 20\nprobe-missed = 5\n'
        ),
        "eth2",
    ),
    ('standby = "eth0"\nprimary = "eth2"\nprobe = []\npoll = 0\n', "eth2"),
    ('standby = "eth0"\n', "eth2"),  # no primary is named: it has the MAC, and stays
    ('standby = "eth0"\nprimary = "eth1"\n', "eth1"),
]


def lost_while_reloading(lab: Lab, process: FailoverProcess, write: Write, tmp_path: Path) -> tuple[int, int]:
    """Take every step under traffic; return how many frames were lost from the host and to it."""
    tx = UdpFlow(lab.host, lab.far, FAR_V4, 5001, rate=RATE, seconds_max=60)
    rx = UdpFlow(lab.far, lab.host, HOST_V4, 5002, rate=RATE, seconds_max=60)

    def pass_frames(count: int = RATE // 4) -> None:
        for flow in (tx, rx):
            goal = flow.received + count
            wait_until(lambda flow=flow, goal=goal: flow.received >= goal, what="traffic", timeout=30)

    with tx, rx:
        tx.start()
        rx.start()
        pass_frames()
        for text, expected in STEPS:
            write(text)
            done = tapbond(lab, tmp_path, "reload", "tb0")
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            active(process, expected)
            pass_frames()
    seen = [total(flow.record()) for flow in (tx, rx)]
    assert [window.duplicated for window in seen] == [0, 0]
    return seen[0].lost, seen[1].lost


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("datapath", "isolation"), [("copy", "bridge"), ("copy", "netns"), ("redirect", "nft")])
def test_a_reload_under_traffic_loses_no_frame(
    lab: Lab, start: Start, file: Path, write: Write, tmp_path: Path, isolation: str
) -> None:
    """Everything that can be changed is: another primary, a new backup, one that goes, delays, probes."""
    lab.plug("eth2")
    write('standby = "eth0"\nprimary = "eth1"\n')
    process = start(lab, "--config", str(file), "--isolation", isolation)
    active(process, "eth1")
    lab.host.check_output(["ping", "-c1", "-W2", FAR_V4])
    lost = []
    for _ in range(TRIES):
        lost.append(lost_while_reloading(lab, process, write, tmp_path))
        assert roles(process) == {"eth0": "standby", "eth1": "primary"}
        if lost[-1] == (0, 0):
            return
    pytest.fail(f"lost each time: {lost}\n{process.log}")


def test_what_needs_a_restart_is_named_and_not_applied(
    lab: Lab, start: Start, file: Path, write: Write, tmp_path: Path
) -> None:
    write('standby = "eth0"\nprimary = "eth1"\n')
    process = start(lab, "--config", str(file))
    write('standby = "eth0"\nprimary = "eth1"\nrx = "any"\nisolation = "nft"\nverbose = true\nupdelay = 5\n')
    before = process.status()
    for said in (
        "tb0: applied: updelay\ntb0: needs a restart: isolation, rx\n",
        "tb0: needs a restart: isolation, rx\n",
    ):
        done = tapbond(lab, tmp_path, "reload", "tb0")
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    after = process.status()
    assert (after.rx, after.isolation) == (before.rx, before.isolation)


def test_a_file_with_a_mistake_changes_nothing(
    lab: Lab, start: Start, file: Path, write: Write, tmp_path: Path
) -> None:
    good = 'standby = "eth0"\nprimary = "eth1"\n'
    write(good)
    process = start(lab, "--config", str(file))
    for bad, says in (
        ('standby = "eth0"\nbackup = ["eth2:5"]\nreselct = "failure"\n', ":3: reselct: no such option"),
        ('standby = "eth0"\nprimary = "lo"\n', "lo: not an Ethernet link"),
        ('standby = "eth0"\nprimary = "eth1"\nprobe = ["224.0.0.1"]\n', "224.0.0.1"),
    ):
        write(bad)
        done = tapbond(lab, tmp_path, "reload", "tb0")
        assert done.returncode == 1
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert "configuration not changed" in process.log
    assert roles(process) == {"eth0": "standby", "eth1": "primary"}
    write(good)
    assert tapbond(lab, tmp_path, "reload", "tb0").stdout == "tb0: nothing has changed\n"


def test_sighup_reads_the_file_again(lab: Lab, start: Start, file: Path, write: Write) -> None:
    write('standby = "eth0"\nprimary = "eth1"\n')
    process = start(lab, "--config", str(file))
    write('standby = "eth0"\nprimary = "eth1"\nbackup = ["eth2"]\nreselect = "failure"\n')
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: READ_AGAIN in process.log, what="the file to be read again")
    lab.plug("eth2")  # a backup that comes after the file named it
    wait_until(lambda: roles(process).get("eth2") == "backup", what="eth2 to be taken")


def test_without_a_file_there_is_nothing_to_reload(lab: Lab, start: Start, tmp_path: Path) -> None:
    process = start(lab)
    done = tapbond(lab, tmp_path, "reload", "tb0")
    assert done.returncode == 1
    assert "without a configuration file" in done.stderr
    assert process.stop(signal.SIGHUP) == 0
