"""Questions to rtnetlink(7) that are asked again and again: no more of an answer is decoded than was asked.

pyroute2 decodes all attributes of a link in a millisecond; these are two or three. The socket belongs to the
network namespace in which it was made, whoever asks. The kernel answers under its RTNL lock, which may take
its time: ask in a thread.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

from tapbond.errors import LinkRequestError
from tapbond.filters import Filters
from tapbond.model import LINK_COUNTER_FIELDS, LinkCounters

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
RTM_GETLINK = 18
RTM_GETNEIGH = 30
RTM_GETSTATS = 94

IFLA_EXT_MASK = 29
RTEXT_FILTER_SKIP_STATS = 1 << 3
IFLA_PROMISCUITY = 30
IFLA_ALLMULTI = 61
IFF_ALLMULTI = 0x200
NDA_LLADDR = 2
NTF_SELF = 0x02
IFLA_STATS_LINK_64 = 1

HEADER = struct.Struct("=IHHII")
IFINFOMSG = struct.Struct("=BxHiII")
NDMSG = struct.Struct("=B3xiHBB")
IF_STATS_MSG = struct.Struct("=B3xII")
ATTRIBUTE = struct.Struct("=HH")
U32 = struct.Struct("=I")
COUNTERS = struct.Struct(f"={len(LINK_COUNTER_FIELDS)}Q")

MAC_LEN = 6
READ_SIZE = 1 << 16
DEADLINE_S = 5.0


MakeSocket = Callable[[int, int, int], socket.socket]
"""As ``socket.socket(family, type, protocol)``: it belongs to whatever network namespace it is made in."""


class Inquiry:
    """Asks about the links of one network namespace; one question at a time, from any thread.

    Args:
        make_socket: makes a socket in that namespace.
    """

    def __init__(self, make_socket: MakeSocket = socket.socket) -> None:
        self._socket = make_socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(DEADLINE_S)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket; again is harmless."""
        self._socket.close()

    def filters(self, tap: int) -> Filters | None:
        """Return what a TAP (an ifindex) wants to hear, None: there is no such link here.

        Raises:
            OSError, LinkRequestError: the kernel does not answer that.
        """
        wish = attribute(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS))
        link = self._ask(RTM_GETLINK, 0, IFINFOMSG.pack(socket.AF_UNSPEC, 0, tap, 0, 0) + wish)
        if not link:
            return None
        _, _, _, flags, _ = IFINFOMSG.unpack_from(link[0])
        told = dict(attributes(link[0][IFINFOMSG.size :]))
        allmulti = U32.unpack(told[IFLA_ALLMULTI])[0] if IFLA_ALLMULTI in told else flags & IFF_ALLMULTI
        return Filters.of_tap(self._addresses(tap), U32.unpack(told[IFLA_PROMISCUITY])[0], allmulti)

    def counters(self, ifindex: int) -> LinkCounters | None:
        """Return what a link's driver has counted, None: there is no such link here.

        Raises:
            OSError, LinkRequestError: the kernel does not answer that (RTM_GETSTATS is since Linux 4.7).
        """
        wanted = 1 << (IFLA_STATS_LINK_64 - 1)
        answer = self._ask(RTM_GETSTATS, 0, IF_STATS_MSG.pack(socket.AF_UNSPEC, ifindex, wanted))
        for message in answer:
            for kind, value in attributes(message[IF_STATS_MSG.size :]):
                if kind == IFLA_STATS_LINK_64:
                    numbers = COUNTERS.unpack(value[: COUNTERS.size].ljust(COUNTERS.size, b"\0"))
                    return LinkCounters(**dict(zip(LINK_COUNTER_FIELDS, numbers, strict=True)))
        return None

    def _addresses(self, ifindex: int) -> Iterator[bytes]:
        """Yield both lists of a device, as ndo_dflt_fdb_dump() of net/core/rtnetlink.c tells them.

        Asked with an ifinfomsg the kernel tells of this device only, with an ndmsg of all that there are
        (valid_fdb_dump_legacy()).
        """
        for message in self._ask(RTM_GETNEIGH, NLM_F_DUMP, IFINFOMSG.pack(socket.AF_BRIDGE, 0, ifindex, 0, 0)):
            _, device, _, flags, _ = NDMSG.unpack_from(message)
            if device == ifindex and flags & NTF_SELF:
                address = dict(attributes(message[NDMSG.size :])).get(NDA_LLADDR, b"")
                if len(address) == MAC_LEN:
                    yield address

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Ask and return the bodies of the answer; none where there is no such link."""
        self._sequence += 1
        self._socket.send(
            HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0) + body
        )
        found: list[bytes] = []
        while True:
            for answer, sequence, payload in messages(self._socket.recv(READ_SIZE)):
                if sequence != self._sequence:
                    continue  # of a question that was given up
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    return self._failed(payload)
                found.append(payload)
            if found and not flags & NLM_F_DUMP:
                return found

    def _failed(self, payload: bytes) -> list[bytes]:
        code = -struct.unpack_from("=i", payload)[0]
        if code == errno.ENODEV:
            return []
        raise LinkRequestError("rtnetlink", code, os.strerror(code))


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, sequence and body of each netlink message (netlink(7)) in a datagram."""
    place = 0
    while place + HEADER.size <= len(data):
        length, kind, _, sequence, _ = HEADER.unpack_from(data, place)
        yield kind, sequence, data[place + HEADER.size : place + length]
        place += max(HEADER.size, (length + 3) & ~3)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute (struct nlattr)."""
    place = 0
    while place + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, place)
        yield kind & 0x3FFF, data[place + ATTRIBUTE.size : place + length]
        place += max(ATTRIBUTE.size, (length + 3) & ~3)


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute of whole 4 bytes."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value
