"""Logs for a person on a terminal, or for a file."""

import atexit
import logging
import os
import select
import sys
from collections import deque
from threading import Condition, Thread
from typing import TextIO, cast

import structlog

ROOM = 1000
"""Lines that wait for a reader at the most."""
FLUSH_S = 1.0


class PatientStream:
    """Lines for a descriptor, written by a thread: whoever logs never waits for who reads.

    What there is no room for is dropped, counted, and said as soon as there is.

    Args:
        fd: to write to, which may be a full pipe.
        room: lines that may wait.
    """

    def __init__(self, fd: int, room: int = ROOM) -> None:
        self._fd = fd
        self._room = room
        self._lines: deque[str] = deque()
        self._dropped = 0
        self.writing = False
        """Whether the thread writes something just now."""
        self._news = Condition()
        Thread(target=self._run, name="tapbond-log", daemon=True).start()

    def write(self, line: str) -> None:
        """Have a line written."""
        with self._news:
            if len(self._lines) < self._room:
                self._lines.append(line)
            else:
                self._dropped += 1
            self._news.notify_all()

    def flush(self) -> None:
        """Do nothing: it is written as soon as it can be."""

    def drain(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until everything is written, but not for ever."""
        with self._news:
            self._news.wait_for(lambda: not self._lines and not self.writing, timeout_s)

    def _run(self) -> None:
        while True:
            with self._news:
                self.writing = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._lines)
                lines, self._lines = "".join(self._lines), deque()
                self.writing = True
                if self._dropped:
                    lines += f"tapbond: {self._dropped} lines of log dropped: nobody read them\n"
                    self._dropped = 0
            self._write(lines.encode(errors="replace"))

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # whoever shares the descriptor has made it so
                room = select.poll()
                room.register(self._fd, select.POLLOUT)
                room.poll()
            except OSError:  # nobody will ever read it
                return


def configure(*, verbose: bool, quiet: bool) -> PatientStream:
    """Log to standard error what happens; ``verbose``: also why; ``quiet``: only warnings. Colour on a tty.

    Returns:
        The stream: what is written to standard error without it comes after what waits in it only by drain().
    """
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    stream = PatientStream(sys.stderr.fileno())
    atexit.register(stream.drain)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),  # write and flush are enough
        cache_logger_on_first_use=True,
    )
    return stream
