"""What the kernel tells of the links of a network namespace: one socket for all in this process who want to know.

Each message is decoded once, however many failovers there are, and is put into a queue of each one's own: what
one of them makes of it, how long it takes and whether it fails is nothing to the others.

When the kernel says ENOBUFS, messages were lost: the socket is opened again and everybody is told so.
"""

import asyncio
import errno
import socket
import struct
import time
import weakref
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from tapbond.linkmessage import RTM_DELLINK, RTM_NEWLINK, Interface, address_of, counters_of, link_of
from tapbond.model import Link, LinkCounters
from tapbond.netns import OpenSocket
from tapbond.rtmessage import RTM_DELADDR, RTM_NEWADDR
from tapbond.rtsocket import messages

log = structlog.get_logger()

RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV6_IFADDR = 0x100
KINDS = (RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR)
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR

READ_SIZE = 1 << 16
LATER_S = 0.05
"""News of links that concern nobody here waits so long: a switch that dies takes many, others have to decide."""
INDEX = struct.Struct("=4xI")
"""The interface's index in ifinfomsg and in ifaddrmsg."""
RECEIVE_BUFFER = 1 << 20


class LinkNews(msgspec.Struct, frozen=True):
    """A link appeared, changed or has gone."""

    link: Link
    when_ns: int
    """When it was read (CLOCK_MONOTONIC)."""
    gone: bool = False
    counters: LinkCounters | None = None
    """What its driver had counted, of one that has gone."""


class AddressNews(msgspec.Struct, frozen=True):
    """A link has got an address, or has it no more."""

    ifindex: int
    address: Interface
    present: bool


News = LinkNews | AddressNews


class Subscriber(Protocol):
    """Who wants to know; called on the event loop."""

    def concerned(self, ifindex: int) -> bool | None:
        """Return whether news of this link cannot wait, None: it is a new one."""

    def news(self, item: News) -> None:
        """Keep this until take_in()."""

    def take_in(self) -> None:
        """Act on everything that was kept, oldest first."""

    def news_lost(self) -> None:
        """Take note that something was missed: read everything again. What comes after this is newer."""


class Newsroom:
    """Reads the news of one namespace for its subscribers; open while there are any.

    Args:
        netns: number of the namespace.
        clock: CLOCK_MONOTONIC in ns.
        receive_buffer: SO_RCVBUF in bytes; a burst beyond it is lost.
    """

    def __init__(
        self,
        netns: int,
        clock: Callable[[], int] = time.monotonic_ns,
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        self.decoded = 0
        """How many messages were decoded."""
        self._netns = netns
        self._clock = clock
        self._receive_buffer = receive_buffer
        self._subscribers: dict[Subscriber, OpenSocket] = {}
        self._later: list[tuple[int, bytes, int]] = []
        self._later_of: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None

    def subscribe(self, subscriber: Subscriber, open_socket: OpenSocket) -> None:
        """Tell of everything from now on; some of the first may be older.

        Args:
            subscriber: until unsubscribe().
            open_socket: in the namespace; it works as long as the subscriber is one.

        Raises:
            OSError: no socket can be had.
        """
        if self._socket is None:
            self._subscribe(open_socket)
        self._subscribers[subscriber] = open_socket

    def unsubscribe(self, subscriber: Subscriber) -> bool:
        """Tell no more; again is harmless.

        Returns:
            Whether nobody is left, and it is closed.
        """
        self._subscribers.pop(subscriber, None)
        if not self._subscribers:
            self._unsubscribe()
        return not self._subscribers

    def read(self) -> None:
        """Give everybody what the kernel has queued, to act on it in its own time."""
        if self._collect() | self._catch_up():
            asyncio.get_running_loop().call_soon(self._distribute)

    def _readable(self) -> None:
        if self._collect():
            self._distribute()

    def _collect(self) -> bool:
        """Put everything into the subscribers' queues; return whether there was anything."""
        found = False
        while self._socket is not None:
            try:
                data = self._socket.recv(READ_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost()
                return True
            found = True
            when_ns = self._clock()
            for kind, _, _, payload in messages(data):
                self._take(kind, payload, when_ns)
        return found

    def _take(self, kind: int, payload: bytes, when_ns: int) -> None:
        """Pass one message on, or keep it for later; nothing overtakes older news of its own link."""
        if kind not in KINDS or len(payload) < INDEX.size or payload[0] == socket.AF_BRIDGE:
            return  # AF_BRIDGE: the state of a bridge's port
        (ifindex,) = INDEX.unpack_from(payload)
        concerned = self._concerned(ifindex) if kind == RTM_NEWLINK else None
        if concerned is False:
            self._later.append((kind, payload, when_ns))
            self._later_of.add(ifindex)
            self._timer = self._timer or asyncio.get_running_loop().call_later(LATER_S, self._now)
            return
        if concerned is None or ifindex in self._later_of:
            self._catch_up()
        self._tell(kind, payload, when_ns)

    def _concerned(self, ifindex: int) -> bool | None:
        known = True
        for subscriber in self._subscribers:
            if concerned := subscriber.concerned(ifindex):
                return True
            known &= concerned is not None
        return False if known else None

    def _now(self) -> None:
        """What was left for later has waited long enough."""
        if self._catch_up():
            self._distribute()

    def _catch_up(self) -> bool:
        """Pass on what was left for later; return whether there was anything."""
        later = self._forget_later()
        for kind, payload, when_ns in later:
            self._tell(kind, payload, when_ns)
        return bool(later)

    def _forget_later(self) -> list[tuple[int, bytes, int]]:
        later, self._later, self._later_of = self._later, [], set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return later

    def _tell(self, kind: int, payload: bytes, when_ns: int) -> None:
        """Decode a message and put it into every queue; one that is broken is skipped."""
        try:
            item = self._item(kind, payload, when_ns)
        except (ValueError, KeyError, IndexError, struct.error) as error:
            log.warning("cannot read what the kernel tells of a link", kind=kind, error=str(error))
            return
        for subscriber in self._subscribers:
            subscriber.news(item)

    def _distribute(self) -> None:
        for subscriber in tuple(self._subscribers):
            while not guarded(subscriber.take_in):
                pass  # it goes on behind what it failed at

    def lost(self) -> None:
        """The socket's buffer overflowed (netlink(7), ENOBUFS): start over."""
        log.warning("netlink events lost, reading all links again")
        self._unsubscribe()
        self._subscribe(next(iter(self._subscribers.values())))  # whose first opened it may have left
        for subscriber in tuple(self._subscribers):
            guarded(subscriber.news_lost)

    def _subscribe(self, open_socket: OpenSocket) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        listening = open_socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listening.bind((0, GROUPS))
        asyncio.get_running_loop().add_reader(listening.fileno(), self._readable)
        self._socket = listening

    def _unsubscribe(self) -> None:
        self._forget_later()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _item(self, kind: int, payload: bytes, when_ns: int) -> News:
        self.decoded += 1
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            link, gone = link_of(payload, self._netns), kind == RTM_DELLINK
            return LinkNews(link, when_ns, gone, counters_of(payload) if gone else None)
        ifindex, address = address_of(payload)
        return AddressNews(ifindex, address, kind == RTM_NEWADDR)


_open: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[int, int], Newsroom]] = (
    weakref.WeakKeyDictionary()
)


def subscribe(
    subscriber: Subscriber,
    netns: int,
    open_socket: OpenSocket,
    clock: Callable[[], int] = time.monotonic_ns,
    receive_buffer: int = RECEIVE_BUFFER,
) -> Newsroom:
    """Have the newsroom of a namespace, which is opened for the first of this event loop, tell a subscriber.

    Args:
        subscriber: until unsubscribe().
        netns: number of the namespace.
        open_socket: there.
        clock: CLOCK_MONOTONIC in ns.
        receive_buffer: see Newsroom.

    Raises:
        OSError: no socket can be had.
    """
    rooms = _open.setdefault(asyncio.get_running_loop(), {})
    room = rooms.get((netns, receive_buffer)) or Newsroom(netns, clock, receive_buffer)
    room.subscribe(subscriber, open_socket)
    rooms[netns, receive_buffer] = room
    return room


def unsubscribe(subscriber: Subscriber, room: Newsroom) -> None:
    """Undo subscribe(); the last one out closes the room."""
    if room.unsubscribe(subscriber):
        rooms = _open.get(asyncio.get_running_loop(), {})
        for key in [key for key, found in rooms.items() if found is room]:
            del rooms[key]


def guarded(call: Callable[[], None]) -> bool:
    """Call; whatever goes wrong is told as the event loop tells it, and disturbs nobody else.

    Returns:
        Whether nothing did.
    """
    try:
        call()
    except Exception as error:  # noqa: BLE001 - as the event loop does for its own
        asyncio.get_running_loop().call_exception_handler({"message": "cannot act on news", "exception": error})
        return False
    return True
