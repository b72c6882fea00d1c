"""Somebody else's hand on the qdiscs that filter what links receive and send."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from tapbond.datapath.tc import RTM_DELQDISC, RTM_NEWQDISC, TC_H_CLSACT, TCMSG
from tapbond.netns import OpenSocket
from tapbond.rtsocket import messages, waiting

RTMGRP_TC = 0x8
READ_SIZE = 1 << 16


class QdiscWatch:
    """Tells when an ``ingress`` or ``clsact`` qdisc came or went, or may have, whoever did it.

    Args:
        open_socket: in the links' network namespace.
        changed: is called on the event loop; it has to look what there is now.
    """

    def __init__(self, open_socket: OpenSocket, changed: Callable[[], None]) -> None:
        self._open_socket = open_socket
        self._changed = changed
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Begin; OSError: no descriptor for it."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = self._open_socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_TC))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """End; again is harmless."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        if self._socket is None:
            return
        found = [data is None or concerns(data) for data in waiting(partial(self._socket.recv, READ_SIZE))]
        if any(found):
            self._changed()


def concerns(data: bytes) -> bool:
    """Return whether one of the messages is about such a qdisc: filters and other qdiscs are told of as well."""
    return any(
        kind in (RTM_NEWQDISC, RTM_DELQDISC) and TCMSG.unpack_from(payload)[3] == TC_H_CLSACT
        for kind, _, _, payload in messages(data)
        if len(payload) >= TCMSG.size
    )
