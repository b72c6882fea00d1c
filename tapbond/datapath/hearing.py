"""What a packet socket asks its link to let through (packet(7), PACKET_ADD_MEMBERSHIP).

The kernel counts who asks for what, and takes a socket's wishes back when it closes, by kill -9 too.
"""

import errno
import os
import socket
import struct

import structlog

from tapbond.filters import Filters, Membership, difference
from tapbond.model import Link

log = structlog.get_logger()

SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_DROP_MEMBERSHIP = 2

PACKET_MREQ = struct.Struct("iHH8s")


class Hearing:
    """The memberships of one packet socket; none at first.

    Args:
        port: the socket, which stays the caller's.
        link: that it is bound to.
    """

    def __init__(self, port: socket.socket, link: Link) -> None:
        self._port = port
        self._link = link
        self._filters = Filters()

    def set(self, filters: Filters) -> None:
        """Let this through and nothing else.

        A membership that the kernel refuses is logged; a link that has gone needs none.
        """
        wanted, unwanted = difference(self._filters, filters)
        self._filters = filters
        for membership in wanted:
            self._ask(PACKET_ADD_MEMBERSHIP, membership)
        for membership in unwanted:
            self._ask(PACKET_DROP_MEMBERSHIP, membership)

    def _ask(self, option: int, membership: Membership) -> None:
        kind, address = membership
        try:
            self._port.setsockopt(
                SOL_PACKET, option, PACKET_MREQ.pack(self._link.ifindex, kind, len(address), address)
            )
        except OSError as error:
            if option == PACKET_ADD_MEMBERSHIP and error.errno not in (errno.ENODEV, errno.ENXIO):
                log.warning(
                    "a slave will not hear all that it should",
                    slave=self._link.name,
                    address=address.hex(":") or "every frame",
                    error=os.strerror(error.errno or 0),
                )
