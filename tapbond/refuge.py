"""A private network namespace in which slaves live, out of sight of everything else.

When a namespace ends, hardware goes to the first one and virtual links are deleted (default_device_exit_net() in
net/core/dev.c). So it is pinned by a bind mount before any link is in it, and a process that is killed leaves a
namespace that the next start finds.
"""

import contextlib
import errno
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from tapbond.errors import LinkRequestError, NamespaceError, NoSuchInterfaceError, TapbondError
from tapbond.model import Link
from tapbond.netns import OWN, Netns, mounts_outlive_us, shows_netns, unpin
from tapbond.place import Place

log = structlog.get_logger()

LOOPBACK = 1
FALLBACK_KINDS = frozenset(("gretap", "erspan"))
"""Ethernet links that a module makes in every namespace, and that cannot be moved."""
ANY_NAME = "dev%d"
"""As the kernel calls a link that comes back to where its name is taken (default_device_exit_net())."""


class Refuge:
    """See above.

    Args:
        failover: its name, for messages.
        home: where the links come from and go back to; open.
        pin: the file on which the namespace is mounted.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(
        self, failover: str, home: Place, pin: Path, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.place = home
        """Where the links live, once it is open."""
        self._failover = failover
        self._home = home
        self._home_netns: Netns | None = None
        self._pin = pin
        self._clock = clock
        self._unwind = AsyncExitStack()

    async def open(self) -> None:
        """Make the namespace and pin it.

        Raises:
            RightsError, NamespaceError: that cannot be; nothing is left then.
        """
        if shows_netns(self._pin):
            way_out = f"see: nsenter --net={self._pin} ip link"
            raise NamespaceError(f"{self._failover}: links of an earlier run are still in {self._pin} ({way_out})")
        netns = Netns.create(self._failover)
        try:
            netns.pin(self._pin)
        except BaseException:
            netns.close()
            raise
        try:
            await self._enter(netns)
        except BaseException:
            unpin(self._pin)
            raise
        if not mounts_outlive_us():
            log.warning(
                "virtual slaves are lost if this process is killed: its mounts, and the pin, may end with it",
                failover=self._failover,
            )

    async def reopen(self) -> None:
        """Enter the namespace that an earlier process left.

        Raises:
            RightsError, NamespaceError: it cannot be entered.
        """
        await self._enter(Netns.open(self._pin))

    async def _enter(self, netns: Netns) -> None:
        async with AsyncExitStack() as unwind:
            place = Place(netns, self._clock)
            await place.open()
            unwind.push_async_callback(place.close)
            self._home_netns = await self._home.run(own)
            unwind.callback(self._home_netns.close)
            unwind.push_async_callback(self._give_up)
            self.place = place
            self._unwind = unwind.pop_all()

    def left(self) -> list[Link]:
        """Return the links that are in it, besides those that every namespace has."""
        return [
            link
            for link in self.place.links.by_index.values()
            if link.ethernet and link.ifindex != LOOPBACK and link.kind not in FALLBACK_KINDS
        ]

    async def take_in(self, link: Link) -> Link:
        """Bring a link in; return it as it is there: down, without addresses, maybe with another ifindex.

        Raises:
            LinkRequestError: it cannot be moved: its driver does not allow it, or its name is taken there.
            NoSuchInterfaceError: it has gone.
        """
        if self.place.netns is None:
            raise RuntimeError("the refuge is not open")
        await self._home.rtnetlink.move(link, self.place.netns, link.name)
        return await _arrived(self.place, lambda found: found.name == link.name, link.name)

    async def send_home(self, link: Link, name: str) -> Link:
        """Bring a link home; return it as it is there: down, without addresses, maybe with another ifindex.

        Args:
            link: as it is here.
            name: what it was called when it came; where that is taken at home, it gets another.

        Raises:
            NoSuchInterfaceError: it has gone.
            LinkRequestError: it cannot be moved.
        """
        if self._home_netns is None:
            raise RuntimeError("the refuge is not open")
        for place in (self._home, self.place):
            place.links.read_pending()
        mac = self.place.links.by_index.get(link.ifindex, link).mac  # it may have just got its own back
        before = set(self._home.links.by_index)
        try:
            await self.place.rtnetlink.move(link, self._home_netns, name)
        except LinkRequestError as error:
            if error.code != errno.EEXIST:
                raise
            await self.place.rtnetlink.move(link, self._home_netns, ANY_NAME)
            log.warning("a slave comes home under another name: its own is taken", slave=name)

        def is_it(found: Link) -> bool:
            return found.ifindex not in before and found.mac == mac

        home = await _arrived(self._home, is_it, name)
        self.place.links.read_pending()
        return home

    async def close(self) -> None:
        """Give the namespace up, unless links are left in it; again is harmless."""
        unwind, self._unwind = self._unwind, AsyncExitStack()
        await unwind.aclose()

    async def _give_up(self) -> None:
        self.place.links.read_pending()
        for link in self.left():  # whose registration was broken off
            with contextlib.suppress(TapbondError):
                await self.send_home(link, link.name)
        if left := [link.name for link in self.left()]:
            log.warning(
                "slaves are left in a private namespace; the next start tries again", slaves=left, path=self._pin
            )
            return
        unpin(self._pin)


def own() -> Netns:
    """Open the calling thread's own namespace."""
    return Netns.open(OWN, "its own namespace")


async def _arrived(place: Place, is_it: Callable[[Link], bool], name: str) -> Link:
    """Return a link that has just been moved to a place."""
    place.links.read_pending()
    for look_again in (True, False):
        for link in place.links.by_index.values():
            if is_it(link):
                return link
        if look_again:
            await place.links.refresh()  # while everything is read again, nothing is read pending
    raise NoSuchInterfaceError(name)
