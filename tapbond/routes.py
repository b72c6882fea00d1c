"""One route as rtnetlink(7) tells it, and the same through another link. Pure.

The numbers are those of linux/rtnetlink.h. Whatever a route has that is not named here (metrics, preferred
source, encapsulation …) is kept as it came.
"""

import ipaddress
import socket
import struct
from collections.abc import Hashable, Iterator

import msgspec

from tapbond.addresses import IP, LINK_LOCAL, is_ipv6
from tapbond.model import Link
from tapbond.rtmessage import RTM_NEWROUTE, Message, align, u32

ROUTE = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags."""
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH = 1, 2, 4, 5, 6, 9
RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_EXPIRES, RTA_NH_ID = 12, 15, 18, 23, 30
CACHEINFO = struct.Struct("=IIiIIII")
TICKS_PER_S = 100
"""USER_HZ, in which rta_expires is counted."""
RTNEXTHOP = struct.Struct("=HBBi")
RTNH_F_ONLINK = 4
RTM_F_CLONED = 0x200
RTPROT_KERNEL = 2
RTPROT_RA = 9
MAIN_TABLE = 254
KERNELS_OWN = (2, 3, 4, 5)
"""RTN_LOCAL, BROADCAST, ANYCAST, MULTICAST: with RTPROT_KERNEL they come and go with an address."""

NOWHERE = Link(ifindex=0, name="", mac="")


def movable_route(message: Message) -> bool:
    """Return whether it is a route that somebody wants, and not one that the kernel makes for every link."""
    if message.kind != RTM_NEWROUTE:
        return False
    family, dst_len, _, _, _, protocol, _, kind, flags = ROUTE.unpack(message.header)
    if family not in IP or flags & RTM_F_CLONED:
        return False
    if protocol != RTPROT_KERNEL:
        return True
    dst = message.get(RTA_DST)
    local = (
        family == socket.AF_INET6 and dst_len == LINK_LOCAL.prefixlen and dst == LINK_LOCAL.network_address.packed
    )
    return kind not in KERNELS_OWN and not local


def legs(value: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Take RTA_MULTIPATH apart: flags, weight - 1, ifindex and the attributes of each rtnexthop."""
    offset = 0
    while offset + RTNEXTHOP.size <= len(value):
        length, flags, hops, ifindex = RTNEXTHOP.unpack_from(value, offset)
        if length < RTNEXTHOP.size:
            return
        yield flags, hops, ifindex, value[offset + RTNEXTHOP.size : offset + length]
        offset += align(length)


def outs(message: Message) -> frozenset[int]:
    """Return the ifindexes of the links that a route goes through."""
    found = {ifindex for _, _, ifindex, _ in legs(message.get(RTA_MULTIPATH) or b"")}
    return frozenset(found | ({message.number(RTA_OIF)} - {0}))


def route_key(message: Message) -> Hashable:
    """Return what makes a route replace another: destination, source, TOS, metric and table."""
    family, dst_len, src_len, tos, table, *_ = ROUTE.unpack(message.header)
    numbers = message.number(RTA_PRIORITY), message.number(RTA_TABLE, table)
    return family, dst_len, message.get(RTA_DST), src_len, message.get(RTA_SRC), tos, *numbers


def route_identity(message: Message) -> Hashable:
    """Return all of a route but what passes with time."""
    clean = moved_route(message, NOWHERE, NOWHERE)
    return message if clean is None else (clean.header, frozenset(clean.without(RTA_EXPIRES).attributes))


def route_text(message: Message) -> str:
    """Return a route's destination as it is written, and its table if it is not the main one."""
    table = message.number(RTA_TABLE, message.header[4])
    dst = message.get(RTA_DST)
    text = "default" if dst is None else f"{ipaddress.ip_address(dst)}/{message.header[1]}"
    return text if table == MAIN_TABLE else f"{text} table {table}"


def learnt_route(message: Message) -> bool:
    """Return whether a route is of a router advertisement, and will come with the next one."""
    protocol = ROUTE.unpack(message.header)[5]
    expiring = is_ipv6(message) and message.get(RTA_EXPIRES) is not None
    return protocol == RTPROT_RA or (protocol == RTPROT_KERNEL and expiring)


def moved_route(message: Message, source: Link, target: Link, elapsed_s: int = 0) -> Message | None:
    """Return a route through another link; None: it has expired.

    A nexthop object stays where it is: the route gets what the object said when it was read.
    """
    family, dst_len, src_len, tos, table, protocol, scope, kind, flags = ROUTE.unpack(message.header)
    changes: dict[int, bytes | None] = {RTA_CACHEINFO: None, RTA_NH_ID: None}
    if (info := message.get(RTA_CACHEINFO)) is not None and (expires := CACHEINFO.unpack_from(info)[2]):
        left_s = expires // TICKS_PER_S - elapsed_s
        if left_s <= 0:
            return None
        changes[RTA_EXPIRES] = u32(left_s)
    if message.number(RTA_OIF) == source.ifindex:
        changes[RTA_OIF] = u32(target.ifindex)
    if (several := message.get(RTA_MULTIPATH)) is not None:
        changes[RTA_MULTIPATH] = _moved_legs(several, source.ifindex, target.ifindex)
    onlink = flags & RTNH_F_ONLINK
    header = ROUTE.pack(family, dst_len, src_len, tos, table, protocol, scope, kind, onlink)
    return msgspec.structs.replace(message, header=header).with_attributes(
        {
            number: value
            for number, value in changes.items()
            if value is not None or message.get(number) is not None
        }
    )


def _moved_legs(several: bytes, source: int, target: int) -> bytes:
    moved = b""
    for flags, hops, ifindex, rest in legs(several):
        length = RTNEXTHOP.size + len(rest)
        out = target if ifindex == source else ifindex
        moved += RTNEXTHOP.pack(length, flags & RTNH_F_ONLINK, hops, out) + rest + bytes(align(length) - length)
    return moved
