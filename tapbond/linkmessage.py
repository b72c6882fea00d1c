"""Links and addresses out of rtnetlink(7) messages: no more is decoded than a Link holds.

pyroute2 decodes every attribute, most of a millisecond a message; with many failovers on one machine every one
hears of the links of all others, and that is what the machine does then. Numbers are from linux/if_link.h and
linux/if_addr.h.
"""

import socket
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from tapbond.model import LINK_COUNTER_FIELDS, Link, LinkCounters
from tapbond.rtmessage import NLA, NLA_TYPE_MASK, encode_attribute, parse_attributes, u32

Interface = IPv4Interface | IPv6Interface

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18

IFINFOMSG = struct.Struct("=BxHiII")
"""Family, device type, index, IFF_*, which of them changed."""
IFADDRMSG = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""

IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_AF_SPEC = 26
IFLA_EXT_MASK = 29
IFLA_LINK_NETNSID = 37
IFLA_PROP_LIST = 52
IFLA_ALT_IFNAME = 53
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL = 1, 5
IFLA_INET6_ADDR_GEN_MODE = 8
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTEXT_FILTER_SKIP_STATS = 1 << 3

ARPHRD_ETHER = 1
ETH_P_8021Q = 0x8100
IFF_UP = 0x1
IFF_LOWER_UP = 0x10000

LINK_REQUEST = encode_attribute(IFLA_EXT_MASK, u32(RTEXT_FILTER_SKIP_STATS))
"""An attribute that has the kernel leave counters out, which take most of its time and ours."""
COUNTERS = struct.Struct(f"={len(LINK_COUNTER_FIELDS)}Q")
KEPT = 1024
"""So many answers to a dump are known again, and not decoded: without counters few change from one to the next."""


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _hex(value: bytes) -> str:
    return value.hex(":")


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


PLAIN: dict[int, tuple[str, Callable[[bytes], Any]]] = {
    1: ("mac", _hex),
    3: ("name", _text),
    4: ("mtu", _number),
    6: ("qdisc", _text),
    IFLA_MASTER: ("master", _number),
    20: ("alias", _text),
    30: ("promiscuity", _number),
    50: ("min_mtu", _number),
    51: ("max_mtu", _number),
    54: ("permanent_mac", _hex),
    57: ("bus", _text),
    61: ("allmulti", _number),
}
"""IFLA_*: which field of Link it is, and how it is read."""


def link_request(name: str) -> bytes:
    """Return the body of an RTM_GETLINK for the link of this name."""
    return IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + encode_attribute(3, name.encode() + b"\0") + LINK_REQUEST


ALL_LINKS = IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + LINK_REQUEST
"""The body of an RTM_GETLINK for all of them."""
ALL_ADDRESSES = bytes(IFADDRMSG.size)


def link_of(payload: bytes, netns: int = 0) -> Link:
    """Return the Link that what follows the header of an RTM_NEWLINK or RTM_DELLINK describes.

    Args:
        payload: whole.
        netns: number of the namespace that it comes from.

    Raises:
        struct.error, ValueError: it is cut short.
    """
    _, device_type, ifindex, flags, _ = IFINFOMSG.unpack_from(payload)
    fields: dict[str, Any] = {"name": "", "mac": "", "mtu": 0}
    offset, end = IFINFOMSG.size, len(payload)
    while offset + NLA.size <= end:
        length, number = NLA.unpack_from(payload, offset)
        if length < NLA.size or offset + length > end:
            raise ValueError("an attribute is cut short")
        number &= NLA_TYPE_MASK
        if (plain := PLAIN.get(number)) is not None:
            fields[plain[0]] = plain[1](payload[offset + NLA.size : offset + length])
        elif (nested := NESTED.get(number)) is not None:
            nested(fields, payload[offset + NLA.size : offset + length])
        offset += (length + 3) & ~3
    if fields.pop("elsewhere", False):
        fields.pop("parent", None)
    return Link(
        ifindex=ifindex,
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        ethernet=device_type == ARPHRD_ETHER,
        netns=netns,
        **fields,
    )


@lru_cache(KEPT)
def known_link(payload: bytes, netns: int) -> Link:
    """Return the same as link_of(), for messages without counters."""
    return link_of(payload, netns)


def counters_of(payload: bytes) -> LinkCounters | None:
    """Return what the driver of a link has counted, None: the message does not tell.

    Raises:
        ValueError: it is cut short.
    """
    for number, value in parse_attributes(payload[IFINFOMSG.size :]):
        if number & NLA_TYPE_MASK == IFLA_STATS64:
            numbers = COUNTERS.unpack(value[: COUNTERS.size].ljust(COUNTERS.size, b"\0"))
            return LinkCounters(**dict(zip(LINK_COUNTER_FIELDS, numbers, strict=True)))
    return None


def address_of(payload: bytes) -> tuple[int, Interface]:
    """Return the link (ifindex) and the address that what follows the header of an RTM_*ADDR is about.

    Raises:
        struct.error, ValueError: it is cut short, or no address.
    """
    family, prefix_len, _, _, ifindex = IFADDRMSG.unpack_from(payload)
    told = {number & NLA_TYPE_MASK: value for number, value in parse_attributes(payload[IFADDRMSG.size :])}
    value = told.get(IFA_LOCAL) or told[IFA_ADDRESS]  # of a point-to-point link the second is the other end's
    return ifindex, (IPv4Interface if family == socket.AF_INET else IPv6Interface)((value, prefix_len))


def _take_info(fields: dict[str, Any], value: bytes) -> None:
    told = dict(parse_attributes(value))
    fields["kind"] = kind = _text(told.get(IFLA_INFO_KIND, b""))
    data = {number & NLA_TYPE_MASK: found for number, found in told.items()}.get(IFLA_INFO_DATA)
    if kind == "vlan" and data is not None:
        vlan = {number & NLA_TYPE_MASK: found for number, found in parse_attributes(data)}
        protocol = int.from_bytes(vlan.get(IFLA_VLAN_PROTOCOL, b""), "big") or ETH_P_8021Q
        fields["vlan"] = protocol, _number(vlan[IFLA_VLAN_ID])


def _take_families(fields: dict[str, Any], value: bytes) -> None:
    for family, told in parse_attributes(value):
        if family & NLA_TYPE_MASK == socket.AF_INET6:
            for number, mode in parse_attributes(told):
                if number & NLA_TYPE_MASK == IFLA_INET6_ADDR_GEN_MODE:
                    fields["addr_gen_mode"] = mode[0]


def _take_properties(fields: dict[str, Any], value: bytes) -> None:
    told = parse_attributes(value)
    fields["altnames"] = frozenset(
        _text(name) for number, name in told if number & NLA_TYPE_MASK == IFLA_ALT_IFNAME
    )


def _take_parent(fields: dict[str, Any], value: bytes) -> None:
    fields["parent"] = _number(value)


def _take_elsewhere(fields: dict[str, Any], _value: bytes) -> None:
    """IFLA_LINK is an index in another namespace, where it means nothing here."""
    fields["elsewhere"] = True


NESTED: dict[int, Callable[[dict[str, Any], bytes], None]] = {
    IFLA_LINK: _take_parent,
    IFLA_LINKINFO: _take_info,
    IFLA_AF_SPEC: _take_families,
    IFLA_LINK_NETNSID: _take_elsewhere,
    IFLA_PROP_LIST: _take_properties,
}
"""IFLA_*: what it says, where that is not a field as it stands."""
