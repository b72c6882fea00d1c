"""A namespace of the lab: one thread inside, programs inside, nothing left."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapbond.lab import Namespace

pytestmark = pytest.mark.namespaces

DEADLINE_S = 20.0


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace("test") as made:
        yield made


def test_namespace_runs_in_one_thread_inside(namespace: Namespace) -> None:
    idents = {namespace.run(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert idents != {threading.get_ident()}
    inside = namespace.run(lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
    assert inside == namespace.inode != Path("/proc/thread-self/ns/net").stat().st_ino


def test_namespace_run_raises_what_the_function_raises(namespace: Namespace) -> None:
    with pytest.raises(ZeroDivisionError):
        namespace.run(lambda: 1 // 0)
    with pytest.raises(OSError, match="nowhere"):
        namespace.index_of("nowhere")


def test_namespace_run_gives_up_after_its_timeout() -> None:
    done = threading.Event()
    with Namespace("slow", timeout=0.05) as slow:
        with pytest.raises(TimeoutError, match="slow: no result within"):
            slow.run(done.wait, DEADLINE_S)
        done.set()


def test_programs_run_inside_and_end_with_the_namespace() -> None:
    with Namespace("programs") as inside:
        shown = inside.check_output(["readlink", "/proc/self/ns/net"])
        assert shown.strip() == f"net:[{inside.inode}]"
        entered = subprocess.run(
            ["nsenter", f"--net={inside.path}", "readlink", "/proc/self/ns/net"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert entered.stdout == shown
        child = inside.spawn(["sleep", "1000"])
    assert child.returncode is not None


def test_failed_program_shows_what_it_said(namespace: Namespace) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        namespace.check_output(["sh", "-c", "echo no >&2; exit 3"])
    assert (failed.value.returncode, failed.value.stderr) == (3, "no\n")


def test_closed_namespace_says_so() -> None:
    closed = Namespace("closed")
    closed.close()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        closed.run(int)
