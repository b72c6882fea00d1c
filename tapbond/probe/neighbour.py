"""IPv6 neighbour probes: a neighbour solicitation (RFC 4861, section 4.3) from a link-local address.

The address is made of the MAC that asks (EUI-64, RFC 4291, appendix A), so an answer says which one had. The
unspecified address would leave no trace in the target's cache, but is answered to everybody (RFC 4861, section
7.2.4), on every path.
"""

import struct

from tapbond.announce import ETHERTYPE_IPV6, HOP_LIMIT, ICMPV6, NEIGHBOUR_ADVERTISEMENT, checksum
from tapbond.probe.frame import ethernet
from tapbond.probe.watcher import Answer, Match

NEIGHBOUR_SOLICITATION = 135
OPTION_SOURCE_LINK_LAYER = 1
SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")
UNIVERSAL_LOCAL = 0x02

IPV6_AT = 14
ICMP_AT = 54
TARGET_AT = 62
ADVERTISEMENT = 24
"""Bytes of one without options."""
PSEUDO_HEADER = struct.Struct("!16s16sIxxxB")


class NeighbourWatcher:
    """Asks for an IPv6 address."""

    name = "neighbour"
    pattern: tuple[Match, ...] = (
        Match(2, 12, ETHERTYPE_IPV6),
        Match(1, 20, ICMPV6),
        Match(1, ICMP_AT, NEIGHBOUR_ADVERTISEMENT),
    )

    def probe(self, mac: bytes, address: bytes) -> bytes:
        """Return a solicitation to the solicited-node group of ``address``."""
        source, group = link_local(mac), SOLICITED_NODE + address[13:]
        message = struct.pack("!BBHI", NEIGHBOUR_SOLICITATION, 0, 0, 0) + address
        message += struct.pack("!BB6s", OPTION_SOURCE_LINK_LAYER, 1, mac)
        total = checksum(PSEUDO_HEADER.pack(source, group, len(message), ICMPV6) + message)
        message = message[:2] + struct.pack("!H", total) + message[4:]
        header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, HOP_LIMIT)
        return ethernet(b"\x33\x33" + group[12:], mac, ETHERTYPE_IPV6, header + source + group + message)

    def answer(self, frame: bytes) -> Answer | None:
        """Return who advertises its address to the link-local address of which MAC (RFC 4861, section 7.1.2)."""
        if len(frame) < TARGET_AT + 16 or frame[12:14] != ETHERTYPE_IPV6.to_bytes(2):
            return None
        version, length, following, hop_limit = struct.unpack_from("!IHBB", frame, IPV6_AT)
        if (version >> 28, following, hop_limit) != (6, ICMPV6, HOP_LIMIT):
            return None
        source, group, message = frame[22:38], frame[38:54], frame[ICMP_AT : ICMP_AT + length]
        if message[:2] != bytes((NEIGHBOUR_ADVERTISEMENT, 0)) or not ADVERTISEMENT <= length == len(message):
            return None
        if group != link_local(frame[:6]):
            return None
        if checksum(PSEUDO_HEADER.pack(source, group, length, ICMPV6) + message) != 0:
            return None
        return Answer(message[8:24], frame[:6])


def link_local(mac: bytes) -> bytes:
    """Return the link-local address of a MAC, packed."""
    identifier = bytes((mac[0] ^ UNIVERSAL_LOCAL,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return b"\xfe\x80" + bytes(6) + identifier
