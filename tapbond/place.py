"""A network namespace as tapbond works in it: its links, requests to them, sockets and a thread inside.

An ifindex only means something in one place: every Link says by ``netns`` in which.
"""

import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from tapbond.links import Links
from tapbond.netns import Netns, OpenSocket
from tapbond.rtnetlink import Rtnetlink

T = TypeVar("T")


class Place:
    """A network namespace, once open().

    Args:
        netns: which; closed with the place. None: that of the thread that calls open().
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, netns: Netns | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.name = netns.name if netns else ""
        """As a person knows it; empty: the process's own."""
        self.netns = netns
        self.socket: OpenSocket = netns.socket if netns else socket.socket
        """Opens a socket that belongs there, from any thread."""
        self.rtnetlink = Rtnetlink(netns)
        self.links = Links(self.rtnetlink, clock, open_socket=self.socket)
        self._unwind = AsyncExitStack()

    @property
    def inode(self) -> int:
        """The number of the namespace, known once it is open: Link.netns of every link there."""
        return self.rtnetlink.netns

    async def open(self) -> None:
        """Read what links there are, and follow them from now on.

        Raises:
            RightsError, NamespaceError: the namespace cannot be entered; nothing is left open then.
        """
        async with AsyncExitStack() as unwind:
            if self.netns is not None:
                unwind.callback(self.netns.close)
            unwind.push_async_callback(self.rtnetlink.close)
            await self.rtnetlink.open()
            unwind.push_async_callback(self.links.close)
            await self.links.open()
            self._unwind = unwind.pop_all()

    async def close(self) -> None:
        """Leave; again is harmless."""
        unwind, self._unwind = self._unwind, AsyncExitStack()
        await unwind.aclose()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns in a thread that is there (``/proc/thread-self/net`` is its own)."""
        return await self.rtnetlink.run(call)
