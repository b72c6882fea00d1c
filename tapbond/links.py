"""The links of a network namespace as rtnetlink(7) tells of them, always the newest state.

An AF_NETLINK socket of our own on the event loop, pyroute2's decoder behind it. When the kernel says ENOBUFS,
events were lost: the socket is opened again, everything is dumped, and the differences are told as events.
"""

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.model import Detector, Link, LinkCounters
from tapbond.netns import OpenSocket
from tapbond.rtnetlink import (
    IFF_LOWER_UP,
    IFF_UP,
    Interface,
    Rtnetlink,
    address_from_message,
    counters_from_message,
    link_from_message,
)

log = structlog.get_logger()

RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV6_IFADDR = 0x100
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR

READ_SIZE = 1 << 16
RECEIVE_BUFFER = 1 << 20
AGAIN_S = 1.0
"""After so long links that could not be read are read again."""
LINK_HEADER = struct.Struct("=IHHIIBxHiII")
"""nlmsghdr and ifinfomsg: length, type, flags, sequence, port, family, device type, index, IFF_*, change."""


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
        self._addresses: dict[int, set[Interface]] = {}
        self._rtnetlink = rtnetlink
        self._clock = clock
        self._listeners: list[LinkListener] = []
        self._marshal = MarshalRtnl()
        self._socket: socket.socket | None = None
        self._resync: asyncio.Task[None] | None = None

    @property
    def netns(self) -> int:
        """The number of the namespace whose links these are."""
        return self._rtnetlink.netns

    async def open(self) -> None:
        """Subscribe, then dump: nothing that happens in between is missed."""
        self._subscribe()
        await self._dump()

    async def refresh(self) -> None:
        """Read everything again, so that what was just changed is known."""
        self._unwatch()
        await self._dump()

    async def close(self) -> None:
        """Stop; again is harmless."""
        if self._resync is not None:
            self._resync.cancel()
        self._unsubscribe()

    def listen(self, listener: LinkListener) -> None:
        """Tell this listener of every change from now on."""
        self._listeners.append(listener)

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
        while self._socket is not None and not self._reading_all():
            try:
                data = self._socket.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost_events()
                return
            self._parse(data)

    def _reading_all(self) -> bool:
        return self._resync is not None and not self._resync.done()

    def correct(self, link: Link, ready: bool, when_ns: int, detector: Detector) -> None:
        """Take in what netlink has not told yet: ``ready`` is up and carrier, read from the device."""
        if link.up and link.carrier != ready:
            self._store(msgspec.structs.replace(link, carrier=ready), when_ns, detector)

    def _subscribe(self) -> None:
        if self._open_socket is None:
            return
        self._socket = self._open_socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self._socket.bind((0, GROUPS))

    def _unsubscribe(self) -> None:
        if self._socket is not None:
            self._unwatch()
            self._socket.close()
            self._socket = None

    def _unwatch(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _lost_events(self) -> None:
        """The socket's buffer overflowed (netlink(7), ENOBUFS): start over."""
        self.resyncs += 1
        log.warning("netlink events lost, reading all links again", resyncs=self.resyncs)
        self._unsubscribe()
        self._subscribe()
        self._resync = asyncio.create_task(self._dump_again())

    async def _dump(self) -> None:
        """Read everything; what happens meanwhile waits on the socket, so that it comes after."""
        try:
            await self._read_all()
        finally:
            if self._socket is not None:
                asyncio.get_running_loop().add_reader(self._socket.fileno(), self.read_pending)

    async def _dump_again(self) -> None:
        """Read everything, however often it takes."""
        while True:
            try:
                await self._dump()
            except (TapbondError, OSError) as error:
                log.warning("cannot read the links, trying again", error=str(error))
                self._unwatch()
                await asyncio.sleep(AGAIN_S)
            else:
                return

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

    def _parse(self, data: bytes) -> None:
        """Take one datagram of messages apart; those of the bridge's port state are not links."""
        when_ns = self._clock()
        self._glance(data, when_ns)
        for message in self._marshal.parse(data):
            kind = message["header"]["type"]
            if kind in (RTM_NEWLINK, RTM_DELLINK) and message["family"] == socket.AF_BRIDGE:
                continue
            if kind == RTM_NEWLINK:
                self._store(link_from_message(message, self._rtnetlink.netns), when_ns)
            elif kind == RTM_DELLINK:
                self.last_counters = counters_from_message(message)
                self._drop(link_from_message(message, self._rtnetlink.netns), when_ns)
                self.last_counters = None
            elif kind in (RTM_NEWADDR, RTM_DELADDR):
                self._address(message["index"], address_from_message(message), kind == RTM_NEWADDR)

    def _glance(self, data: bytes, when_ns: int) -> None:
        """Take the flags of a link that is known out of the fixed header, before anything else is decoded.

        Decoding all attributes takes most of a millisecond, and a switchover waits for nothing but these.
        """
        if len(data) < LINK_HEADER.size:
            return
        _, kind, _, _, _, family, _, ifindex, flags, _ = LINK_HEADER.unpack_from(data)
        link = self.by_index.get(ifindex)
        if kind == RTM_NEWLINK and family != socket.AF_BRIDGE and link is not None:
            up, carrier = bool(flags & IFF_UP), bool(flags & IFF_LOWER_UP)
            self._store(msgspec.structs.replace(link, up=up, carrier=carrier), when_ns)

    def _store(self, link: Link, when_ns: int, detector: Detector = Detector.NETLINK) -> None:
        if self.by_index.get(link.ifindex) == link:
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
