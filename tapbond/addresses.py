"""One address of a link as rtnetlink(7) tells it, and the same on another link. Pure.

The numbers are those of linux/if_addr.h; 0.0.0.0/0 to fe80::1/64, with label, scope, flags and lifetimes.
"""

import ipaddress
import socket
import struct
from collections.abc import Hashable

import msgspec

from tapbond.model import Link
from tapbond.rtmessage import Message, u32

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

IFNAMSIZ = 16
IP = (socket.AF_INET, socket.AF_INET6)
LINK_LOCAL = ipaddress.IPv6Network("fe80::/64")


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
