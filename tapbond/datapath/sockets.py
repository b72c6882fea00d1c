"""The packet sockets of one slave, one for each queue of the TAP, which share what it receives.

The kernel deals frames out by a hash of their flow (packet(7), PACKET_FANOUT_HASH): addresses, protocol and ports,
the same value in both directions. __skb_get_hash_symmetric() is also what a TAP chooses its queue by, and both
scale it alike: so a flow has one queue, on every slave and both ways. What has no addresses to hash, ARP for
instance, goes to one queue. Fragments are dealt out by their addresses, and not put together before
(PACKET_FANOUT_FLAG_DEFRAG): a frame must pass as it came.
"""

import socket
import struct
from collections.abc import Iterator

import structlog

from tapbond._core import lib
from tapbond.datapath.port import SOL_PACKET, open_port
from tapbond.errors import NoSuchInterfaceError
from tapbond.model import Link
from tapbond.netns import OpenSocket

log = structlog.get_logger()

PACKET_FANOUT = 18
PACKET_FANOUT_HASH = 0
PACKET_FANOUT_FLAG_UNIQUEID = 0x2000
"""The kernel finds a number that no other group in this network namespace has; since Linux 4.12."""
PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x4000
"""A group hears what others send by the link unless it is told not to: PACKET_IGNORE_OUTGOING is the socket's own.
Kernels that do not know the flag take it and go on hearing."""
FANOUT = struct.Struct("I")
"""The group's number, and above it its type and flags."""
FANOUT_SHIFT = 16
FANOUT_ID = 0xFFFF
VNET_HEADER = bytes(lib.TB_VNET_LEN)


class SlaveSockets:
    """One slave's sockets, each behind a closed gate.

    Linux before 6.13 lets a socket join only while its link is up. Until then the first one hears everything, and
    the others, which are bound without a protocol, are for sending only: no frame is lost or comes twice.

    Args:
        sockets: one a queue; they are this object's now.
        link: that they are bound to; None: they are no packet sockets, and who hears what is not its business.
        open_socket: in the link's network namespace.
    """

    def __init__(
        self, sockets: list[socket.socket], link: Link | None = None, open_socket: OpenSocket = socket.socket
    ) -> None:
        self._sockets = sockets
        self._link = link
        self._open_socket = open_socket
        self._group: int | None = None
        self._retired: list[socket.socket] = []
        self.shared = link is None or len(sockets) == 1
        """Whether every socket hears its share."""

    @classmethod
    def open(cls, link: Link, count: int, open_socket: OpenSocket = socket.socket) -> "SlaveSockets":
        """Open as many sockets on a link.

        Raises:
            TapbondError: see open_port().
        """
        sockets = cls([open_port(link, open_socket)], link, open_socket)
        try:
            sockets.shared = count == 1 or sockets.share(count)
            while len(sockets) < count:
                sockets._sockets.append(open_port(link, open_socket, hear=False))
        except BaseException:
            for one in sockets.take():
                one.close()
            raise
        if not sockets.shared:
            log.info("one queue receives for all until the link is up", slave=link.name)
        return sockets

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self._sockets)

    @property
    def first(self) -> socket.socket:
        """The first queue's, which all that is not a frame of the host goes by."""
        return self._sockets[0]

    def share(self, count: int) -> bool:
        """Have every queue hear its share, with new sockets for all but the first; return whether it does now.

        Those that they replace stay open until close: a pump may be using them.
        """
        joined: list[socket.socket] = []
        try:
            if self._link is None:
                return False
            if self._group is None:
                self._group = _found(self.first)
            for _ in range(1, count):
                joined.append(open_port(self._link, self._open_socket))
                _join(joined[-1], self._group)
        except (OSError, NoSuchInterfaceError) as error:
            log.debug("not shared", slave=self._link.name if self._link else "", error=str(error))
            for one in joined:
                one.close()
            return False
        self._retired += self._sockets[1:]
        self._sockets[1:] = joined
        self.shared = True
        return True

    def send(self, frame: bytes) -> str:
        """Send a frame that is not the host's; return why that did not work, or nothing.

        The first error may be an old one: see port_send() in csrc/port.c.
        """
        return _send_error(self.first, frame) and _send_error(self.first, frame)

    def take(self) -> list[socket.socket]:
        """Hand over every socket that is open, to be closed."""
        taken, self._sockets, self._retired = self._sockets + self._retired, [], []
        return taken


def _found(first: socket.socket) -> int:
    """Found a group; return its number."""
    flags = PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID | PACKET_FANOUT_FLAG_IGNORE_OUTGOING
    first.setsockopt(SOL_PACKET, PACKET_FANOUT, FANOUT.pack(flags << FANOUT_SHIFT))
    return first.getsockopt(SOL_PACKET, PACKET_FANOUT) & FANOUT_ID


def _join(one: socket.socket, group: int) -> None:
    flags = PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_IGNORE_OUTGOING
    one.setsockopt(SOL_PACKET, PACKET_FANOUT, FANOUT.pack(flags << FANOUT_SHIFT | group))


def _send_error(port: socket.socket, frame: bytes) -> str:
    try:
        port.send(VNET_HEADER + frame)
    except OSError as error:
        return error.strerror or str(error)
    return ""
