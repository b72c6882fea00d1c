"""What is looked at once a second, and at once when something has changed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

INTERVAL_S = 1.0


class Rounds:
    """Does its duties one after the other, again and again; one that fails does not keep the others from theirs.

    Args:
        duties: what to do.
        interval_s: from the end of a round to the next.
    """

    def __init__(self, *duties: Callable[[], Awaitable[None]], interval_s: float = INTERVAL_S) -> None:
        self._duties = duties
        self._interval_s = interval_s
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complained: set[str] = set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._go_round())

    def hurry(self) -> None:
        """Do a round now, once more if one is under way."""
        self._hurry.set()

    async def once(self) -> None:
        """Do one round and return when it is done."""
        for duty in self._duties:
            try:
                await duty()
            except Exception as error:
                if (complaint := repr(error)) not in self._complained:
                    self._complained.add(complaint)
                    log.exception("cannot look after the failover")

    async def stop(self) -> None:
        """End; again is harmless."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait((task,))

    async def _go_round(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._hurry.wait()
            self._hurry.clear()
            await self.once()
