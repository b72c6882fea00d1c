"""Time that moves only when the test says so, and a loop that lives in it."""

import asyncio
import math
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

NS_PER_S = 1_000_000_000
START_NS = 1_000 * NS_PER_S
"""Where a virtual clock begins: a machine is never up for 0 ns."""


class VirtualClock:
    """CLOCK_MONOTONIC in ns that moves only when it is told to.

    Args:
        now_ns: where it begins.
    """

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Return the time in ns."""
        return self.now_ns

    def advance(self, ns: int) -> int:
        """Let time pass; return the new time.

        Raises:
            ValueError: it would run backwards.
        """
        if ns < 0:
            raise ValueError("a monotonic clock does not run backwards")
        self.now_ns += ns
        return self.now_ns


class _JumpingSelector(selectors.EpollSelector):
    """Instead of sleeping until the next timer, moves the clock there."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._clock.advance(math.ceil(timeout * NS_PER_S))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock: when nothing is left to do, it is the time of the next timer at once.

    Args:
        clock: its time.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual_clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        """Return the clock's time in seconds."""
        return self._virtual_clock() / NS_PER_S


def run(main: Coroutine[Any, Any, T], clock: VirtualClock) -> T:
    """Run a coroutine on a VirtualLoop, and return its result.

    Raises:
        BaseException: what ``main`` raised; else the first that a timer or another callback did, which a loop
            only logs: a test must not pass over it.
    """
    found: list[BaseException] = []

    def take_note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        found.append(context.get("exception") or RuntimeError(context["message"]))

    def make() -> VirtualLoop:
        loop = VirtualLoop(clock)
        loop.set_exception_handler(take_note)
        return loop

    with asyncio.Runner(loop_factory=make) as runner:
        result = runner.run(main)
    if found:
        raise found[0]
    return result
