"""Frames that tell a switch, and the neighbours, where the failover's MAC lives now.

RARP as QEMU announces itself after a migration, gratuitous ARP (RFC 5227, section 3; RFC 5944, section 4.6), and
unsolicited neighbour advertisements (RFC 4861, section 7.2.6).
"""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

ETHERTYPE_ARP = 0x0806
ETHERTYPE_RARP = 0x8035
ETHERTYPE_IPV6 = 0x86DD
MACS_LEN = 12
BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")

ARP_REQUEST = 1
RARP_REQUEST_REVERSE = 3
ICMPV6 = 58
NEIGHBOUR_ADVERTISEMENT = 136
NA_OVERRIDE = 0x20000000
OPTION_TARGET_LINK_LAYER = 2
HOP_LIMIT = 255

ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
MIN_FRAME = 60


def rarp(mac: bytes) -> bytes:
    """Return a broadcast RARP request for one's own MAC: switches learn the port, nobody answers."""
    body = ARP_BODY.pack(1, 0x0800, 6, 4, RARP_REQUEST_REVERSE, mac, bytes(4), mac, bytes(4))
    return ethernet(BROADCAST, mac, ETHERTYPE_RARP, body)


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """Return a broadcast ARP request for one's own address; neighbours refresh their caches."""
    ip = address.packed
    body = ARP_BODY.pack(1, 0x0800, 6, 4, ARP_REQUEST, mac, ip, bytes(6), ip)
    return ethernet(BROADCAST, mac, ETHERTYPE_ARP, body)


def unsolicited_na(mac: bytes, address: IPv6Address) -> bytes:
    """Return a neighbour advertisement to all nodes, with the override flag and the link-layer address."""
    option = struct.pack("!BB6s", OPTION_TARGET_LINK_LAYER, 1, mac)
    advert = struct.pack("!BBHI", NEIGHBOUR_ADVERTISEMENT, 0, 0, NA_OVERRIDE) + address.packed + option
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!IxxxB", len(advert), ICMPV6)
    advert = advert[:2] + struct.pack("!H", checksum(pseudo + advert)) + advert[4:]
    header = struct.pack("!IHBB", 6 << 28, len(advert), ICMPV6, HOP_LIMIT)
    return ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6, header + address.packed + ALL_NODES.packed + advert)


def announcements(
    mac: str, addresses: Iterable[IPv4Address | IPv6Address], tags: Sequence[tuple[int, int]] = ()
) -> list[bytes]:
    """Return all the frames that announce a failover, or a link that is stacked on it.

    Args:
        mac: its address, ``aa:bb:cc:dd:ee:ff``.
        addresses: the addresses that it holds.
        tags: TPID and id of the VLANs that it is in, the outermost first.

    Returns:
        Ethernet frames without FCS: the RARP first, because it alone moves the switch's table.
    """
    source = bytes.fromhex(mac.replace(":", ""))
    frames = [rarp(source)]
    for address in addresses:
        if isinstance(address, IPv4Address):
            frames.append(gratuitous_arp(source, address))
        else:
            frames.append(unsolicited_na(source, address))
    return [tagged(frame, tags) for frame in frames]


def tagged(frame: bytes, tags: Sequence[tuple[int, int]]) -> bytes:
    """Return a frame with VLAN tags (TPID and id) inserted, the outermost first."""
    inserted = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return frame[:MACS_LEN] + inserted + frame[MACS_LEN:]


def checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071) of ``data``."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """Return a frame without FCS, long enough for Ethernet."""
    frame = destination + source + struct.pack("!H", ethertype) + payload
    return frame.ljust(MIN_FRAME, b"\0")
