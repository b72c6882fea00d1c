"""What the failover wants to hear, its slaves hear: net_failover_set_rx_mode(), with promisc and allmulti too.

rtnetlink tells of promisc and allmulti, since Linux 6.14 or so of joined groups as well, and never of an address
that was added to a device's lists by hand: so they are read once a second too.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from tapbond.datapath import DataPath
from tapbond.errors import TapbondError
from tapbond.filters import EVERYTHING, Filters
from tapbond.inquiry import MakeSocket
from tapbond.rtsocket import SOL_NETLINK, waiting

log = structlog.get_logger()

NETLINK_ADD_MEMBERSHIP = 1
NETLINK_NO_ENOBUFS = 5
RTNLGRP_IPV4_MCADDR = 37
RTNLGRP_IPV6_MCADDR = 38

READ_SIZE = 1 << 16
NEWS = struct.Struct("=16x4xI")
"""nlmsghdr and ifaddrmsg, of which only the interface's index is of interest."""


class Reception:
    """Keeps the slaves' packet sockets asking for what the TAP wants to hear.

    Args:
        failover: its name.
        read: returns that, None where the TAP cannot be seen: everything is heard then.
        datapath: asks for it.
    """

    def __init__(self, failover: str, read: Callable[[], Awaitable[Filters | None]], datapath: DataPath) -> None:
        self._failover = failover
        self._read = read
        self._datapath = datapath
        self._filters: Filters | None = None

    async def look(self) -> None:
        """Read, and pass on what has changed."""
        try:
            filters = await self._read() or EVERYTHING
        except (OSError, TapbondError) as error:
            log.debug("cannot read what to hear: everything", failover=self._failover, error=str(error))
            filters = EVERYTHING
        if filters == self._filters:
            return
        self._filters = filters
        self._datapath.hear(filters)
        log.debug(
            "slaves hear what the failover hears",
            failover=self._failover,
            groups=len(filters.multicast),
            unicast=len(filters.unicast),
            allmulti=filters.allmulti,
            promisc=filters.promisc,
        )


class GroupNews:
    """Calls when an interface joined or left a group, where the kernel tells it.

    Args:
        ifindex: the interface.
        told: is called on the event loop.
        make_socket: makes a socket in the TAP's network namespace.
    """

    def __init__(self, ifindex: int, told: Callable[[], None], make_socket: MakeSocket = socket.socket) -> None:
        self._ifindex = ifindex
        self._told = told
        self._make_socket = make_socket
        self._socket: socket.socket | None = None

    def open(self) -> bool:
        """Subscribe; False: this kernel does not tell."""
        news = self._make_socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
        try:
            news.bind((0, 0))  # unbound it would hear nothing
            news.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)  # what is lost changes nothing: all is read again
            for group in (RTNLGRP_IPV4_MCADDR, RTNLGRP_IPV6_MCADDR):
                news.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError:
            news.close()
            return False
        self._socket = news
        asyncio.get_running_loop().add_reader(news.fileno(), self._read)
        return True

    def close(self) -> None:
        """End; again is harmless."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        if self._socket is None:
            return
        found = [
            data is None or (len(data) >= NEWS.size and NEWS.unpack_from(data)[0] == self._ifindex)
            for data in waiting(partial(self._socket.recv, READ_SIZE))
        ]
        if any(found):
            self._told()
