"""The links of a network namespace as rtnetlink(7) tells of them, always the newest state.

Changes are told by tapbond.linknews. When some were lost, everything is dumped, and the differences are told as
events.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from tapbond import linknews
from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.linkmessage import Interface
from tapbond.linknews import RECEIVE_BUFFER, LinkNews, News, Newsroom
from tapbond.model import Detector, Link, LinkCounters
from tapbond.netns import OpenSocket
from tapbond.rtnetlink import Rtnetlink
from tapbond.stack import STACKABLE

log = structlog.get_logger()

AGAIN_S = 1.0
"""After so long links that could not be read are read again."""


class LinkListener(Protocol):
    """Who wants to know; called on the event loop, ``when_ns`` is CLOCK_MONOTONIC."""

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        """Take note of a link that appeared or changed."""

    def link_removed(self, link: Link, when_ns: int) -> None:
        """Take note of a link that was deleted or moved to another namespace."""

    def addresses_changed(self, ifindex: int) -> None:
        """Take note that a link's addresses are others now."""


class Links:
    """All links, kept up to date while open.

    Args:
        rtnetlink: an open one; not closed here.
        clock: CLOCK_MONOTONIC in ns.
        receive_buffer: SO_RCVBUF of the socket in bytes; a burst of events beyond it costs a new dump.
        open_socket: in the namespace whose links they are. None: nothing is told, only refresh() looks.
    """

    def __init__(
        self,
        rtnetlink: Rtnetlink,
        clock: Callable[[], int] = time.monotonic_ns,
        receive_buffer: int = RECEIVE_BUFFER,
        *,
        open_socket: OpenSocket | None = socket.socket,
    ) -> None:
        self._open_socket = open_socket
        self._receive_buffer = receive_buffer
        self.by_index: dict[int, Link] = {}
        self.resyncs = 0
        """How often events were lost and everything was dumped again."""
        self.last_counters: LinkCounters | None = None
        """What the driver of the link had counted that link_removed() tells of; None: it was not told."""
        self.mine: Callable[[int], bool] | None = None
        """Says of which links (ifindex) the news cannot wait; None: of none."""
        self._addresses: dict[int, set[Interface]] = {}
        self._rtnetlink = rtnetlink
        self._clock = clock
        self._listeners: list[LinkListener] = []
        self._room: Newsroom | None = None
        self._waiting: deque[News] = deque()
        self._reading = 0
        self._lost = False
        self._resync: asyncio.Task[None] | None = None

    @property
    def netns(self) -> int:
        """The number of the namespace whose links these are."""
        return self._rtnetlink.netns

    async def open(self) -> None:
        """Subscribe, then dump: nothing that happens in between is missed."""
        if self._open_socket is not None:
            self._room = linknews.subscribe(self, self.netns, self._open_socket, self._clock, self._receive_buffer)
        await self._dump()

    async def refresh(self) -> None:
        """Read everything again, so that what was just changed is known."""
        await self._dump()

    async def close(self) -> None:
        """Stop; again is harmless."""
        if self._resync is not None:
            self._resync.cancel()
        if self._room is not None:
            linknews.unsubscribe(self, self._room)
            self._room = None
        self._waiting.clear()

    def listen(self, listener: LinkListener, mine: Callable[[int], bool] | None = None) -> None:
        """Tell this listener of every change from now on; ``mine`` says of which links (ifindex) without delay."""
        self._listeners.append(listener)
        self.mine = mine or self.mine

    def unlisten(self, listener: LinkListener) -> None:
        """Tell this listener no more."""
        self._listeners.remove(listener)

    def by_name(self, name: str) -> Link:
        """Return the link of this name.

        Raises:
            NoSuchInterfaceError: there is none.
        """
        for link in self.by_index.values():
            if link.name == name:
                return link
        raise NoSuchInterfaceError(name)

    def addresses(self, ifindex: int) -> list[Interface]:
        """Return the addresses of a link, IPv4 first, in a stable order."""
        return sorted(self._addresses.get(ifindex, ()), key=lambda a: (a.version, int(a.ip)))

    def read_pending(self) -> None:
        """Take in what the kernel has queued, so that a poll is not overtaken by older news."""
        if self._room is not None:
            self._room.read()
            self.take_in()

    def correct(self, link: Link, ready: bool, when_ns: int, detector: Detector) -> None:
        """Take in what netlink has not told yet: ``ready`` is up and carrier, read from the device."""
        if link.up and link.carrier != ready:
            self._store(msgspec.structs.replace(link, carrier=ready), when_ns, detector)

    # What the newsroom tells.

    def concerned(self, ifindex: int) -> bool | None:
        """Return whether news of this link cannot wait, None: it is a new one, or ``mine`` is not known yet."""
        link = self.by_index.get(ifindex)
        if link is None or self.mine is None:
            return None
        return link.kind in STACKABLE or self.mine(ifindex)

    def news(self, item: News) -> None:
        """Keep this until take_in()."""
        self._waiting.append(item)

    def take_in(self) -> None:
        """Act on what was kept, unless everything is being read: that would be overtaken by older answers."""
        while self._waiting and not self._reading:
            item = self._waiting.popleft()
            if not isinstance(item, LinkNews):
                self._address(item.ifindex, item.address, item.present)
            elif item.gone:
                self.last_counters = item.counters
                self._drop(item.link, item.when_ns)
                self.last_counters = None
            else:
                self._store(item.link, item.when_ns)

    def news_lost(self) -> None:
        """Read everything again: what was kept is older."""
        self.resyncs += 1
        self._waiting.clear()
        self._lost = True
        if self._resync is None or self._resync.done():
            self._resync = asyncio.create_task(self._dump_again())

    async def _dump(self) -> None:
        """Read everything; what happens meanwhile waits, so that it comes after."""
        self._reading += 1
        try:
            await self._read_all()
        finally:
            self._reading -= 1
            linknews.guarded(self.take_in)

    async def _dump_again(self) -> None:
        """Read everything, however often it takes; again if more was lost meanwhile."""
        while self._lost:
            self._lost = False
            try:
                await self._dump()
            except (TapbondError, OSError) as error:
                log.warning("cannot read the links, trying again", error=str(error))
                self._lost = True
                await asyncio.sleep(AGAIN_S)

    async def _read_all(self) -> None:
        found = await self._rtnetlink.links()
        addresses = await self._rtnetlink.addresses()
        when_ns = self._clock()
        for gone in self.by_index.keys() - {link.ifindex for link in found}:
            self._drop(self.by_index[gone], when_ns)
        for link in found:
            self._store(link, when_ns)
            if (present := addresses.get(link.ifindex, set())) != self._addresses.get(link.ifindex, set()):
                self._addresses[link.ifindex] = present
                self._tell_addresses(link.ifindex)

    def _store(self, link: Link, when_ns: int, detector: Detector = Detector.NETLINK) -> None:
        known = self.by_index.get(link.ifindex)
        if known is link or known == link:
            return
        self.by_index[link.ifindex] = link
        for listener in self._listeners:
            listener.link_changed(link, when_ns, detector)

    def _drop(self, link: Link, when_ns: int) -> None:
        known = self.by_index.pop(link.ifindex, None)
        self._addresses.pop(link.ifindex, None)
        if known is None:
            return
        for listener in self._listeners:
            listener.link_removed(known, when_ns)

    def _address(self, ifindex: int, address: Interface, present: bool) -> None:
        addresses = self._addresses.setdefault(ifindex, set())
        if present == (address in addresses):
            return
        (addresses.add if present else addresses.discard)(address)
        self._tell_addresses(ifindex)

    def _tell_addresses(self, ifindex: int) -> None:
        for listener in self._listeners:
            listener.addresses_changed(ifindex)
