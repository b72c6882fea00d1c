"""A signal as an exception, for commands that have much to take down."""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked for the end; ``args[0]`` is its number."""


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # taking everything down is not to be interrupted
    raise Stopped(number)


def listen() -> None:
    """From now on, the first of SIGNALS raises Stopped; further ones do nothing."""
    for number in SIGNALS:
        signal.signal(number, _stop)
