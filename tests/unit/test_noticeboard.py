"""Files that are kept up to date by a thread of their own."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from tapbond.service import noticeboard as module
from tapbond.service.noticeboard import Files, Noticeboard, write_whole

DEADLINE_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def files(root: Path) -> Files:
    """Return what is there, as os.walk() has it: folders may go while it looks."""
    paths = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return {str(path.relative_to(root)): path.read_text() for path in paths if path.is_file()}


async def test_written_changed_and_removed(tmp_path: Path) -> None:
    root, now = tmp_path / "tb0.state", {"a/active": "eth1\n", "a/b/mii": "up\n"}
    (root / "stale/x").mkdir(parents=True)
    board = Noticeboard(root, lambda: dict(now), 60, own=True)
    board.start()
    await until(lambda: files(root) == now)
    assert stat.S_IMODE((root / "a/active").stat().st_mode) == 0o644
    assert not (root / "stale").exists()
    untouched = (root / "a/active").stat().st_ino
    del now["a/b/mii"]
    now["c"] = "1\n"
    board.changed()
    await until(lambda: files(root) == now)
    assert not (root / "a/b").exists()
    assert (root / "a/active").stat().st_ino == untouched
    await board.close()
    assert not root.exists()
    await board.close()


async def test_it_looks_again_by_itself(tmp_path: Path) -> None:
    now = {"x": "1"}
    board = Noticeboard(tmp_path, lambda: dict(now), 0.02, own=False)
    board.start()
    now["x"] = "2"
    await until(lambda: files(tmp_path) == {"x": "2"})
    await board.close()


async def test_a_folder_of_others_stays_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "other.prom").write_text("other")
    board = Noticeboard(tmp_path, lambda: {"tb0.prom": "1"}, 60, own=False)
    board.start()
    await until(lambda: "tb0.prom" in files(tmp_path))
    await board.close()
    assert files(tmp_path) == {"other.prom": "other"}


async def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    texts = ["a" * 200_000, "b" * 200_000]
    board = Noticeboard(tmp_path, lambda: {"x": texts[0]}, 60, own=False)
    board.start()
    await until((tmp_path / "x").exists)
    for _ in range(50):
        texts.reverse()
        board._publish()
        assert (tmp_path / "x").read_text() in texts
        await asyncio.sleep(0)
    await board.close()


async def test_a_disk_that_is_full_is_said_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, tried, real = [], [0], module.write_whole

    def write(path: Path, text: str) -> None:
        tried[0] += 1
        if tried[0] < 4:
            raise OSError(28, "No space left on device")
        real(path, text)

    monkeypatch.setattr(module, "write_whole", write)
    monkeypatch.setattr(module.log, "warning", lambda *_a, **fields: said.append(fields["error"]), raising=False)
    board = Noticeboard(tmp_path, lambda: {"x": "1"}, 0.01, own=False)
    board.start()
    await until(lambda: files(tmp_path) == {"x": "1"})
    await board.close()
    assert said == ["[Errno 28] No space left on device"]


async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, begun = Event(), Event()

    def write(_path: Path, _text: str) -> None:
        begun.set()
        hung.wait()

    monkeypatch.setattr(module, "write_whole", write)
    monkeypatch.setattr(module, "END_S", 0.05)
    board = Noticeboard(tmp_path, lambda: {"x": "1"}, 0.01, own=False)
    board.start()
    await until(begun.is_set)
    async with asyncio.timeout(DEADLINE_S):
        await board.close()
    hung.set()
    await until(lambda: not board._thread.is_alive())
    assert os.listdir(tmp_path) == []


def test_a_link_that_somebody_has_laid_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / ".x.prom.part").symlink_to(precious)
    write_whole(tmp_path / "x.prom", "theirs")
    assert precious.read_text() == "mine"
    assert (tmp_path / "x.prom").read_text() == "theirs"
