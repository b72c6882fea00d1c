"""Places and a refuge whose links exist only here."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tapbond.netns import Netns
from tapbond.place import Place
from tapbond.refuge import Refuge
from tapbond.testing.network import FakeNetwork

T = TypeVar("T")


class FakeNetns(Netns):
    """A number that stands for a namespace; nothing can be entered or pinned.

    Args:
        inode: the number.
    """

    def __init__(self, inode: int) -> None:
        self.inode = inode
        self.name = f"net-{inode}"
        self.closed = False
        """Whether close() was called."""

    def close(self) -> None:
        """Note it."""
        self.closed = True


class FakePlace(Place):
    """The Place of a FakeNetwork.

    Args:
        network: whose links.
    """

    def __init__(self, network: FakeNetwork) -> None:
        self.name = f"net-{network.netns}"
        self.netns = FakeNetns(network.netns)
        self.socket = socket.socket
        self.rtnetlink = network.rtnetlink
        self.links = network.links

    async def open(self) -> None:
        """Read what links there are."""
        await self.links.open()

    async def close(self) -> None:
        """Do nothing."""

    async def run(self, call: Callable[[], T]) -> T:
        """Run it: one thread is as good as another."""
        return call()


class FakeRefuge(Refuge):
    """An open Refuge between two FakeNetworks.

    Args:
        home: where the links come from.
        private: where they live.
    """

    def __init__(self, home: FakeNetwork, private: FakeNetwork) -> None:
        super().__init__("tb0", FakePlace(home), Path("/nowhere"))
        home.rtnetlink.neighbours[private.netns] = private
        private.rtnetlink.neighbours[home.netns] = home
        self.place = FakePlace(private)
        self._home_netns = FakeNetns(home.netns)
