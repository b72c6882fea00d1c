"""Files that tell how a failover is, kept up to date, for tools that read files.

They are written by a thread of their own, whole (rename(2)) and only when they differ: the loop never waits for a
disk, and who reads never sees half a file.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread

import structlog

log = structlog.get_logger()

SETTLE_S = 0.02
"""What comes in one go is written once; and a switchover has the loop for itself."""
END_S = 1.0

Files = dict[str, str]
"""The text of each file, by its path below the root."""


class Noticeboard:
    """See above.

    Args:
        root: the folder.
        render: returns what is to be in it.
        every_s: look so often even if nothing is said to have changed.
        own: the folder is ours: made, emptied first, and removed at the end.
    """

    def __init__(self, root: Path, render: Callable[[], Files], every_s: float, *, own: bool) -> None:
        self._root = root
        self._render = render
        self._every_s = every_s
        self._own = own
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._wanted: Files | None = None
        self._ended = False
        self._news = Condition()
        self._thread = Thread(target=self._run, name="tapbond-files", daemon=True)

    def start(self) -> None:
        """Write now, and go on."""
        self._thread.start()
        self._publish()

    def changed(self) -> None:
        """Have it written again soon."""
        if not self._soon and not self._ended:
            self._soon = True
            self._wait(SETTLE_S)

    async def close(self) -> None:
        """Remove the files; a disk that hangs is not waited for."""
        if self._timer is not None:
            self._timer.cancel()
        with self._news:
            self._ended = True
            self._news.notify_all()
        if self._thread.is_alive():
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, END_S)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._publish)

    def _publish(self) -> None:
        self._soon = False
        self._wait(self._every_s)
        files = self._render()
        with self._news:
            self._wanted = files
            self._news.notify_all()

    def _run(self) -> None:
        written: Files = {}
        trouble = ""
        if self._own:
            shutil.rmtree(self._root, ignore_errors=True)
        while (files := self._next()) is not None:
            try:
                self._write(files, written)
                trouble = ""
            except OSError as error:
                if trouble != (trouble := str(error)):
                    log.warning("cannot write what is to be read", folder=str(self._root), error=trouble)
        self._remove(written, {})
        if self._own:
            shutil.rmtree(self._root, ignore_errors=True)

    def _next(self) -> Files | None:
        with self._news:
            self._news.wait_for(lambda: self._wanted is not None or self._ended)
            files, self._wanted = self._wanted, None
            return None if self._ended else files

    def _write(self, files: Files, written: Files) -> None:
        for name, text in files.items():
            if written.get(name) != text:
                write_whole(self._root / name, text)
                written[name] = text
        self._remove(written, files)

    def _remove(self, written: Files, keep: Files) -> None:
        for name in written.keys() - keep.keys():
            del written[name]
            with contextlib.suppress(OSError):
                (self._root / name).unlink(missing_ok=True)
                for folder in (self._root / name).relative_to(self._root).parents[:-1]:
                    (self._root / folder).rmdir()  # until one is not empty


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever reads finds the old or the new text, and everyone may.

    Made anew and never followed: others may own the folder, and lead a link to a file of ours.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("x", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
    part.replace(path)
