"""The run directory: who may use it, and what is locked in it."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapbond import rundir
from tapbond.errors import BusyError, TapbondError
from tapbond.rundir import Lock, RunDir

HOLDER = """
import sys
from pathlib import Path
from tapbond.rundir import RunDir
lock = RunDir(Path(sys.argv[1])).make().lock_failover("tb0")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run").make()


def test_it_is_the_owners_only(run_dir: RunDir) -> None:
    assert run_dir.path.stat().st_mode & 0o777 == 0o700
    assert run_dir.path.parent.stat().st_mode & 0o777 == 0o700


def test_it_is_made_once_and_found_again(run_dir: RunDir, tmp_path: Path) -> None:
    assert RunDir(tmp_path / "run").make().path == run_dir.path


def test_network_namespaces_do_not_meet(run_dir: RunDir) -> None:
    assert run_dir.path.name == f"net-{Path('/proc/self/ns/net').stat().st_ino}"


def test_it_is_closed_to_others_though_it_was_open(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    RunDir(tmp_path / "run").make()
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_another_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(TapbondError, match=r"belongs to another user \(choose another with --run-dir\)"):
        RunDir(tmp_path / "run").make()


def test_a_place_where_none_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TapbondError, match="cannot make the run directory: Not a directory"):
        RunDir(tmp_path / "file").make()


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    deep = RunDir(tmp_path / ("x" * 120))
    with pytest.raises(TapbondError, match="too long for a Unix socket"):
        deep.socket("tb0")


def test_the_longest_socket_path_can_be_bound(tmp_path: Path) -> None:
    spare = 107 - len(str(RunDir(tmp_path).socket("tb0"))) - 1
    found = RunDir(tmp_path / ("x" * spare)).socket("tb0")
    assert len(str(found)) == 107
    with pytest.raises(TapbondError, match="too long"):
        RunDir(tmp_path / ("x" * (spare + 1))).socket("tb0")


# Locks.


def test_a_second_lock_names_the_process_that_has_the_first(run_dir: RunDir) -> None:
    first = run_dir.lock_failover("tb0")
    expected = rf"^tb0: already run by process {os.getpid()} \(see: tapbond status tb0\)$"
    for _ in range(2):
        with pytest.raises(BusyError, match=expected):
            run_dir.lock_failover("tb0")
    first.release()
    run_dir.lock_failover("tb0").release()


def test_a_link_belongs_to_one_failover(run_dir: RunDir) -> None:
    first = run_dir.lock_link(7, "eth1", "tb0")
    with pytest.raises(BusyError, match=r"^eth1: already a slave of tb0$"):
        run_dir.lock_link(7, "eth1", "tb1")
    run_dir.lock_link(8, "eth2", "tb1").release()
    first.release()
    second = run_dir.lock_link(7, "eth1", "tb1")
    with pytest.raises(BusyError, match=r"^eth1: already a slave of tb1$"):
        run_dir.lock_link(7, "eth1", "tb0")
    second.release()


def test_releasing_twice_does_not_close_another_file(run_dir: RunDir) -> None:
    first = run_dir.lock_failover("tb0")
    first.release()
    second = run_dir.lock_failover("tb0")
    first.release()
    with pytest.raises(BusyError):
        run_dir.lock_failover("tb0")
    second.release()


def test_a_process_that_was_killed_holds_nothing(run_dir: RunDir, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(rundir.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(BusyError, match=f"already run by process {holder.pid} "):
            run_dir.lock_failover("tb0")
        holder.kill()
    run_dir.lock_failover("tb0").release()


def test_a_refused_lock_leaks_no_descriptor(run_dir: RunDir) -> None:
    first = run_dir.lock_failover("tb0")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(BusyError):
            run_dir.lock_failover("tb0")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    first.release()


def test_a_shorter_pid_overwrites_a_longer_note(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("4194304 a-very-long-name-of-a-failover")
    lock = Lock(path, "held by {pid}|{note}|", "tb0")
    with pytest.raises(BusyError, match=rf"^held by {os.getpid()}\|tb0\|$"):
        Lock(path, "held by {pid}|{note}|")
    lock.release()


# Names.


def test_an_owner_that_has_not_written_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(rundir.time, "sleep", lambda _seconds: path.write_text("7 tb0"))
        with pytest.raises(BusyError, match="by 7, tb0"):
            Lock(path, "by {pid}, {note}")


def test_failovers_are_those_with_a_socket(run_dir: RunDir) -> None:
    assert run_dir.failovers() == []
    for name in ("tb1", "tb0"):
        run_dir.socket(name).touch()
        run_dir.journal(name).touch()
    run_dir.lock_failover("tb2").release()
    assert run_dir.failovers() == ["tb0", "tb1"]


def test_names_with_dots_are_kept_whole(run_dir: RunDir) -> None:
    run_dir.socket("tb0.1").touch()
    assert run_dir.failovers() == ["tb0.1"]


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rundir.ENVIRONMENT, str(tmp_path / "named"))
    assert rundir.default_base() == tmp_path / "named"
    monkeypatch.delenv(rundir.ENVIRONMENT)
    monkeypatch.setattr(rundir, "SYSTEM", tmp_path / "system")
    assert rundir.default_base() == tmp_path / "system"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))
    assert rundir.default_base() == tmp_path / "user" / "tapbond"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert rundir.default_base().name.startswith("tapbond-")
