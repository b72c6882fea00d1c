"""The event stream: what happens to a failover, for as many readers as want it."""

import asyncio
import weakref
from collections.abc import AsyncIterator

from tapbond.model import Event

BACKLOG = 256


class EventStream:
    """Hands every event to every reader; one that does not read loses the oldest, and delays nobody."""

    def __init__(self) -> None:
        # Weak: an iterator that is dropped before its first event never comes to its finally.
        self._readers: weakref.WeakSet[asyncio.Queue[Event | None]] = weakref.WeakSet()
        self._ended = False

    def emit(self, event: Event | None) -> None:
        """Give an event to all readers; None: there will be no more."""
        self._ended = event is None
        for queue in self._readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def subscribe(self) -> AsyncIterator[Event]:
        """Return all events from now on; none when there will be no more."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BACKLOG)
        if self._ended:
            queue.put_nowait(None)
        self._readers.add(queue)
        return self._read(queue)

    async def _read(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._readers.discard(queue)
