"""Where a TAP was moved to, looked at without staying: a container's namespace must be able to end with it.

A thread, a socket or a descriptor inside keeps a network namespace alive. So each request enters the namespace
in a thread of its own and is out again when it has its answer.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from pyroute2 import IPRoute

from tapbond.errors import NamespaceError, RightsError
from tapbond.links import Links
from tapbond.netns import Netns, OpenSocket
from tapbond.place import Place
from tapbond.rtnetlink import Rtnetlink

T = TypeVar("T")


class Visit(Rtnetlink):
    """Requests to a namespace that is entered anew for each.

    Args:
        open_netns: opens it; raises OSError.
    """

    def __init__(self, open_netns: Callable[[], Netns]) -> None:
        super().__init__()
        self._thread.shutdown()
        self._open_netns = open_netns
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> Self:
        """Do nothing."""
        return self

    async def close(self) -> None:
        """Do nothing: nothing is open between two visits."""

    async def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` in a thread that is in the namespace.

        Raises:
            RightsError, NamespaceError: it cannot be entered.
        """
        async with self._one_at_a_time:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tapbond-visit")
            try:
                return await super().run(lambda: self._inside(call))
            finally:
                self._thread.shutdown(wait=False)

    def _inside(self, call: Callable[[], T]) -> T:
        try:
            netns = self._open_netns()
        except OSError as error:
            kind = RightsError if error.errno == errno.EPERM else NamespaceError
            raise kind(f"cannot see where the TAP is: {error.strerror}") from error
        self.netns = netns.inode
        try:
            netns.enter()
        finally:
            netns.close()
        with IPRoute() as self._ipr:
            return call()


class VisitedPlace(Place):
    """A Place that is not stayed in: its links are as of the last ``links.refresh()``.

    Args:
        open_netns: opens the namespace; raises OSError.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, open_netns: Callable[[], Netns], clock: Callable[[], int]) -> None:
        super().__init__(clock=clock)
        self.name = "where the TAP is"
        self.rtnetlink = Visit(open_netns)
        self.links = Links(self.rtnetlink, clock, open_socket=None)
        self.socket: OpenSocket = _VisitingSocket(open_netns)

    async def open(self) -> None:
        """Do nothing: links.refresh() looks."""


class _VisitingSocket:
    """Opens a socket there. Whoever keeps it open keeps the namespace alive."""

    def __init__(self, open_netns: Callable[[], Netns]) -> None:
        self._open_netns = open_netns

    def __call__(self, family: int, kind: int, protocol: int) -> socket.socket:
        netns = self._open_netns()
        try:
            return netns.socket(family, kind, protocol)
        finally:
            netns.close()
