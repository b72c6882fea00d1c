"""``tapbond demo`` from end to end, as a program: its lab is drawn in tapbond/lab/topology.py."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tapbond.lab import wait_until
from tapbond.lab.demo.plan import STEPS

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(180)]

DEADLINE_S = 60.0
DEMO = (sys.executable, "-m", "tapbond", "demo", "--seconds", "1.5", "--rate", "1000")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: the path of a Unix socket has to fit below it."""
    with tempfile.TemporaryDirectory(prefix="tbtest") as made:
        yield Path(made)


@contextmanager
def running(tmp_path: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen([*prefix, *DEMO, *options], env=env, stdout=pipe, stderr=pipe, text=True) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def child_under_traffic(demo: subprocess.Popen[str]) -> int:
    """Return the process of ``tapbond run``, once the demo has told of its first event."""
    assert demo.stdout is not None
    while "primary set down" not in demo.stdout.readline():
        assert demo.poll() is None
    (child,) = children(demo.pid)
    return child


def check(data: dict[str, Any]) -> None:
    assert [row["event"] for row in data["rows"]] == ["undisturbed", *(step.name for step in STEPS)]
    for row in data["rows"][1:]:
        assert row["switched"], row
        assert row["detector"] in ("netlink", "poll", "pump", "control")
        assert row["to_far"]["recovered"], row
        assert row["to_host"]["recovered"], row
        assert (row["to_far"]["duplicated"], row["to_host"]["duplicated"]) == (0, 0), row
    assert data["totals"]["tcp_alive"]
    assert data["totals"]["to_far_sent"] >= 9000


def test_demo_goes_through_every_event_and_writes_what_it_found(tmp_path: Path) -> None:
    data_file, plot_file = tmp_path / "demo.json", tmp_path / "demo.svg"
    own = tmp_path / "tmp"
    own.mkdir()
    options = ["--json", str(data_file)]
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an extra
    except ImportError:
        pass
    else:
        options += ["--plot", str(plot_file)]
    with running(own, *options) as demo:
        out, err = demo.communicate(timeout=DEADLINE_S)
    assert err == ""
    data = json.loads(data_file.read_text())
    check(data)
    assert demo.returncode == (0 if data["verdict"]["ok"] else 1), out
    assert ("passed: " in out) == data["verdict"]["ok"]
    assert max(map(len, out.splitlines())) <= 80
    assert "--plot" not in options or plot_file.read_text().startswith("<?xml")
    assert list(own.iterdir()) == []


def test_ctrl_c_takes_everything_down(tmp_path: Path) -> None:
    with running(tmp_path) as demo:
        child = child_under_traffic(demo)
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, err) == (130, "tapbond: interrupted; everything is taken down\n")
    assert not runs(child)
    assert list(tmp_path.iterdir()) == []


def test_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path) as demo:
        child = child_under_traffic(demo)
        demo.kill()
        demo.communicate(timeout=DEADLINE_S)
    wait_until(lambda: not runs(child), DEADLINE_S, "the end of tapbond run")


@pytest.mark.tools("unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="gives up capabilities, which only root has")
def test_demo_without_rights_makes_itself_a_user_namespace(tmp_path: Path) -> None:
    bare = ("setpriv", "--bounding-set=-net_admin,-sys_admin,-net_raw")
    data_file = tmp_path / "demo.json"
    with running(tmp_path, "--json", str(data_file), prefix=bare) as demo:
        out, err = demo.communicate(timeout=DEADLINE_S)
    if "user namespace" in err:
        pytest.skip(err.strip())
    assert err == ""
    data = json.loads(data_file.read_text())
    check(data)
    assert data["settings"]["user_namespace"]
    assert "in a user namespace" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--plot", "demo.pdf"), "tapbond: demo.pdf: a plot is a .png or .svg file\n"),
        (("--json", "no/such/demo.json"), "tapbond: no/such/demo.json: no such folder\n"),
    ],
)
def test_bad_option_is_told_before_anything_happens(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    with running(tmp_path, *options) as demo:
        out, err = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, out, err) == (1, "", said)
