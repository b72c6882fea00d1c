"""rtnetlink(7) messages as the kernel gave them: a header and attributes, kept as bytes.

What is only carried from one link to another need not be understood: an attribute that a later kernel adds
to a route is given back as it came.
"""

import struct
import sys
from collections.abc import Iterator
from typing import Self

import msgspec

NLMSG = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port: nlmsghdr of netlink(7)."""
NLA = struct.Struct("=HH")
NLA_TYPE_MASK = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

HEADER_LEN = {RTM_NEWADDR: 8, RTM_NEWROUTE: 12, RTM_NEWNEIGH: 12}
"""Of ifaddrmsg, rtmsg and ndmsg."""
DELETE = {RTM_NEWADDR: RTM_DELADDR, RTM_NEWROUTE: RTM_DELROUTE, RTM_NEWNEIGH: RTM_DELNEIGH}

Attributes = tuple[tuple[int, bytes], ...]


class Message(msgspec.Struct, frozen=True):
    """One address, route or neighbour entry: RTM_NEW* or the RTM_DEL* of it."""

    kind: int
    header: bytes
    attributes: Attributes

    @classmethod
    def parse(cls, kind: int, payload: bytes) -> Self:
        """Take apart what follows the nlmsghdr of a message.

        Raises:
            ValueError, struct.error: it is cut short.
        """
        length = HEADER_LEN[kind]
        return cls(kind, payload[:length], tuple(parse_attributes(payload[length:])))

    def encode(self) -> bytes:
        """Return what follows the nlmsghdr."""
        return self.header + b"".join(encode_attribute(number, value) for number, value in self.attributes)

    def get(self, number: int) -> bytes | None:
        """Return an attribute's value, None where there is none."""
        return next((value for found, value in self.attributes if found & NLA_TYPE_MASK == number), None)

    def number(self, number: int, default: int = 0) -> int:
        """Return an attribute that is a number in host byte order."""
        value = self.get(number)
        return default if value is None else int.from_bytes(value, sys.byteorder)

    def with_attributes(self, changes: dict[int, bytes | None]) -> Self:
        """Return it with other attributes; None: without that one."""
        left = dict(changes)
        kept = []
        for found, value in self.attributes:
            changed = left.pop(found & NLA_TYPE_MASK, value)
            if changed is not None:
                kept.append((found, changed))
        kept += [(number, value) for number, value in left.items() if value is not None]
        return msgspec.structs.replace(self, attributes=tuple(kept))

    def without(self, *numbers: int) -> Self:
        """Return it without these attributes."""
        return self.with_attributes(dict.fromkeys(numbers))


def u32(value: int) -> bytes:
    """Return a number as the kernel wants it in an attribute."""
    return struct.pack("=I", value)


def parse_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take a row of attributes apart.

    Raises:
        ValueError: it is cut short.
    """
    offset = 0
    while offset + NLA.size <= len(data):
        length, number = NLA.unpack_from(data, offset)
        if length < NLA.size or offset + length > len(data):
            raise ValueError("an attribute is cut short")
        yield number, data[offset + NLA.size : offset + length]
        offset += align(length)


def encode_attribute(number: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    length = NLA.size + len(value)
    return NLA.pack(length, number) + value + bytes(align(length) - length)


def align(length: int) -> int:
    """Return NLA_ALIGN() of a length: the next multiple of 4."""
    return (length + 3) & ~3
