"""Word of changes in other network namespaces, heard from this one without keeping those alive."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from tapbond.linknews import GROUPS
from tapbond.rtsocket import SOL_NETLINK, waiting

NETLINK_LISTEN_ALL_NSID = 8
"""netlink(7): hear the namespaces that have an id here, as one has into which a link was moved from here; who it
was is told beside the message. Needs CAP_NET_BROADCAST here and there (do_one_broadcast() in af_netlink.c)."""
READ_SIZE = 1 << 16
ANCILLARY_SIZE = 64


class ForeignNews:
    """Calls when links or addresses of another namespace change; which, and how, is for the caller to find out.

    Args:
        told: is called on the event loop.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._socket: socket.socket | None = None

    @property
    def hears(self) -> bool:
        """Whether the kernel allows it, since open()."""
        return self._socket is not None

    def open(self) -> None:
        """Begin, again is harmless; where the kernel does not allow it nothing is ever told."""
        if self._socket is not None:
            return
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        listening = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            listening.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
        except OSError:
            listening.close()
            return
        listening.bind((0, GROUPS))
        asyncio.get_running_loop().add_reader(listening.fileno(), self._read)
        self._socket = listening

    def close(self) -> None:
        """Stop; again is harmless."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        if self._socket is None:
            return
        found = [
            heard is None or any(about[:2] == (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID) for about in heard[1])
            for heard in waiting(partial(self._socket.recvmsg, READ_SIZE, ANCILLARY_SIZE))
        ]
        if any(found):
            self._told()
