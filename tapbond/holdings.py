"""What a link holds: its addresses, the routes through it and its neighbours; and the same on another link.

Pure. The numbers are those of linux/if_addr.h, linux/rtnetlink.h and linux/neighbour.h.
"""

import ipaddress
import socket
import struct
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Self

import msgspec

from tapbond.model import Link
from tapbond.rtmessage import RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE, Message, align, u32

ADDRESS = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, ifindex."""
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS, IFA_PROTO = 1, 2, 3, 6, 8, 11
IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL = 2, 3
LIFETIMES = struct.Struct("=IIII")
"""ifa_cacheinfo: preferred and valid for so many seconds, created, updated."""
FOREVER = 0xFFFFFFFF
IFA_F_NODAD, IFA_F_HOMEADDRESS, IFA_F_MANAGETEMPADDR = 0x02, 0x10, 0x100
IFA_F_NOPREFIXROUTE, IFA_F_MCAUTOJOIN, IFA_F_STABLE_PRIVACY = 0x200, 0x400, 0x800
GIVEN_FLAGS = IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN
"""Those that whoever adds an address may choose; the kernel finds out the others itself."""

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

NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""ndmsg: family, ifindex, state, flags, type."""
NDA_DST, NDA_LLADDR, NDA_PROTOCOL = 1, 2, 12
NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x80
NTF_EXT_LEARNED, NTF_ROUTER = 0x10, 0x80

IP = (socket.AF_INET, socket.AF_INET6)
IFNAMSIZ = 16
LINK_LOCAL = ipaddress.IPv6Network("fe80::/64")

NOWHERE = Link(ifindex=0, name="", mac="")


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """All of one link, in the kernel's order."""

    addresses: tuple[Message, ...] = ()
    routes: tuple[Message, ...] = ()
    neighbours: tuple[Message, ...] = ()
    taken_ns: int = 0
    """CLOCK_BOOTTIME of the dump, from which lifetimes count."""

    @classmethod
    def of(cls, link: Link, messages: Iterable[Message], taken_ns: int) -> Self:
        """Pick what is a link's, and may be moved, out of a dump of everything."""
        found = list(messages)
        return cls(
            addresses=tuple(m for m in found if m.kind == RTM_NEWADDR and address_index(m) == link.ifindex),
            routes=tuple(m for m in found if movable_route(m) and link.ifindex in outs(m)),
            neighbours=tuple(m for m in found if _movable_neighbour(m) and _neighbour_index(m) == link.ifindex),
            taken_ns=taken_ns,
        )

    def moved(self, source: Link, target: Link, now_ns: int) -> Self:
        """Return the same as it is to be on another link; what has expired meanwhile is left out."""
        elapsed_s = max(0, now_ns - self.taken_ns) // 10**9
        return type(self)(
            addresses=_kept(self.addresses, lambda m: moved_address(m, source, target, elapsed_s)),
            routes=_kept(self.routes, lambda m: moved_route(m, source, target, elapsed_s)),
            neighbours=_kept(self.neighbours, lambda m: moved_neighbour(m, target)),
            taken_ns=now_ns,
        )

    def without(self, other: "Holdings") -> Self:
        """Return what is not in another one too."""
        addresses = {address_key(m) for m in other.addresses}
        routes = {route_identity(m) for m in other.routes}
        neighbours = {neighbour_key(m) for m in other.neighbours}
        return msgspec.structs.replace(
            self,
            addresses=tuple(m for m in self.addresses if address_key(m) not in addresses),
            routes=tuple(m for m in self.routes if route_identity(m) not in routes),
            neighbours=tuple(m for m in self.neighbours if neighbour_key(m) not in neighbours),
        )


def _kept(messages: Iterable[Message], move: Callable[[Message], Message | None]) -> tuple[Message, ...]:
    return tuple(moved for message in messages if (moved := move(message)) is not None)


# Addresses.


def address_index(message: Message) -> int:
    """Return the ifindex of the link that has this address; 0: no IP address."""
    family, *_, ifindex = ADDRESS.unpack(message.header)
    return int(ifindex) if family in IP else 0


def address_key(message: Message) -> Hashable:
    """Return what makes an address of a link the same one: find_matching_ifa() in devinet.c."""
    family, prefix_length, *_ = ADDRESS.unpack(message.header)
    return family, prefix_length, message.get(IFA_LOCAL) or message.get(IFA_ADDRESS), message.get(IFA_ADDRESS)


def address_text(message: Message) -> str:
    """Return an address as it is written."""
    value = message.get(IFA_LOCAL) or message.get(IFA_ADDRESS) or b""
    return f"{ipaddress.ip_address(value)}/{message.header[1]}"


def address_flags(message: Message) -> int:
    """Return IFA_F_*: 32 bits, of which the header has the lowest 8."""
    return message.number(IFA_FLAGS, message.header[2])


def is_ipv6(message: Message) -> bool:
    """Return whether it is about IPv6."""
    return message.header[0] == socket.AF_INET6


def is_link_local(message: Message) -> bool:
    """Return whether an address is an IPv6 link-local one."""
    return is_ipv6(message) and ipaddress.ip_address(message.get(IFA_ADDRESS) or b"") in LINK_LOCAL


def is_learnt(message: Message) -> bool:
    """Return whether the kernel made an address by itself, of the MAC or of a router advertisement."""
    return message.number(IFA_PROTO) in (IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL)


def with_flags(message: Message, flags: int) -> Message:
    """Return an address with these IFA_F_*."""
    family, prefix_length, _, scope, ifindex = ADDRESS.unpack(message.header)
    header = ADDRESS.pack(family, prefix_length, flags & 0xFF, scope, ifindex)
    return msgspec.structs.replace(message, header=header).with_attributes({IFA_FLAGS: u32(flags)})


def moved_address(message: Message, source: Link, target: Link, elapsed_s: int = 0) -> Message | None:
    """Return an address as it is to be on another link; None: it has expired."""
    family, prefix_length, _, scope, _ = ADDRESS.unpack(message.header)
    changes: dict[int, bytes | None] = {}
    if (lifetimes := message.get(IFA_CACHEINFO)) is not None:
        preferred, valid, *_ = LIFETIMES.unpack(lifetimes)
        if valid <= elapsed_s:
            return None
        changes[IFA_CACHEINFO] = LIFETIMES.pack(_less(preferred, elapsed_s), _less(valid, elapsed_s), 0, 0)
    if (label := message.get(IFA_LABEL)) is not None:
        changes[IFA_LABEL] = _moved_label(label, source.name, target.name)
    header = ADDRESS.pack(family, prefix_length, 0, scope, target.ifindex)
    moved = msgspec.structs.replace(message, header=header).with_attributes(changes)
    return with_flags(moved, address_flags(message) & GIVEN_FLAGS)


def _less(seconds: int, elapsed_s: int) -> int:
    return seconds if seconds == FOREVER else max(0, seconds - elapsed_s)


def _moved_label(label: bytes, source: str, target: str) -> bytes:
    """Return ``tb0:1`` for ``eth0:1``; one that gets too long, or is not the link's, is the link's name."""
    old, _, alias = label.rstrip(b"\0").decode(errors="replace").partition(":")
    new = (f"{target}:{alias}" if alias else target).encode()
    return (new if old == source and len(new) < IFNAMSIZ else target.encode()) + b"\0"


# Routes.


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


# Neighbours.


def _neighbour_index(message: Message) -> int:
    return int(NEIGHBOUR.unpack(message.header)[1])


def neighbour_key(message: Message) -> Hashable:
    """Return what makes a neighbour of a link the same one."""
    return message.header[0], message.get(NDA_DST)


def neighbour_text(message: Message) -> str:
    """Return a neighbour's address as it is written."""
    return str(ipaddress.ip_address(message.get(NDA_DST) or b""))


def is_permanent(message: Message) -> bool:
    """Return whether a neighbour was entered by hand."""
    return bool(NEIGHBOUR.unpack(message.header)[2] & NUD_PERMANENT)


def _movable_neighbour(message: Message) -> bool:
    """Return whether its MAC is known and was not made of a group's address."""
    if message.kind != RTM_NEWNEIGH or message.get(NDA_LLADDR) is None:
        return False
    family, _, state, *_ = NEIGHBOUR.unpack(message.header)
    known = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT
    return family in IP and bool(state & known)


def moved_neighbour(message: Message, target: Link) -> Message:
    """Return a neighbour of another link; one that is being asked after is merely old there."""
    family, _, state, flags, kind = NEIGHBOUR.unpack(message.header)
    if state & (NUD_DELAY | NUD_PROBE):
        state = NUD_STALE
    flags &= NTF_EXT_LEARNED | NTF_ROUTER
    kept = tuple((number, value) for number, value in message.attributes if number in _NEIGHBOUR_ATTRIBUTES)
    header = NEIGHBOUR.pack(family, target.ifindex, state, flags, kind)
    return msgspec.structs.replace(message, header=header, attributes=kept)


_NEIGHBOUR_ATTRIBUTES = (NDA_DST, NDA_LLADDR, NDA_PROTOCOL)
