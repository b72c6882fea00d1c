"""The multicast groups that the host has joined, and the reports that make a switch's new port carry them.

What bonding does with ``resend_igmp`` (Documentation/networking/bonding.rst), and the same for IPv6. The kernel
tells of groups in /proc/net/igmp and igmp6 only, which are those of the network namespace that the reading thread
is in.
"""

import struct
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import structlog

from tapbond.announce import ETHERTYPE_IPV6, ICMPV6, checksum, ethernet

log = structlog.get_logger()

ETHERTYPE_IPV4 = 0x0800
IGMP = 2
IGMPV2_REPORT = 0x16
ROUTER_ALERT_V4 = bytes.fromhex("94040000")
"""RFC 2113."""
INTERNETWORK_CONTROL = 0xC0
"""TOS of IGMP (RFC 3376, section 4)."""
ALL_HOSTS = IPv4Address("224.0.0.1")

MLDV2_REPORT = 143
CHANGE_TO_EXCLUDE = 4
MLDV2_ROUTERS = IPv6Address("ff02::16")
HOP_BY_HOP = 0
ROUTER_ALERT_V6 = bytes.fromhex("05020000 0100")
"""RFC 2711, the value of MLD, then PadN."""
RECORDS_MAX = 60
"""So many records of 20 bytes fit into the 1280 bytes that every link carries."""
ALL_NODES = IPv6Address("ff02::1")
LEAST_REPORTED_SCOPE = 2
"""Groups of the scopes 0 (reserved) and 1 (this interface) are not reported (RFC 3810, section 6)."""

Reader = Callable[[str], str]


def read_proc(name: str) -> str:
    """Return ``igmp`` or ``igmp6`` of the namespace that this thread is in."""
    return Path("/proc/thread-self/net", name).read_text(encoding="ascii", errors="replace")


def joined(ifindex: int, read: Reader = read_proc) -> list[IPv4Address | IPv6Address]:
    """Return the groups that are to be reported for a link: none where the kernel does not tell.

    Args:
        ifindex: the link.
        read: returns the text of ``igmp`` and ``igmp6``; an OSError is a kernel without that protocol.
    """
    return [*_parsed("igmp", _igmp, ifindex, read), *_parsed("igmp6", _igmp6, ifindex, read)]


def reports(
    mac: str,
    groups: Collection[IPv4Address | IPv6Address],
    addresses: Collection[IPv4Address | IPv6Address],
) -> list[bytes]:
    """Return the frames that report groups.

    Args:
        mac: of the link that has joined them.
        groups: as joined() returns them.
        addresses: the link's: the first IPv4 and the first link-local IPv6 address are the senders', else the
            unspecified one, which switches and routers take as well (RFC 4541, section 2.1.1; RFC 3810, section
            5.2.13).

    Returns:
        For IPv4 an IGMPv2 report a group (RFC 2236): every snooping switch understands it, whereas those that know
        version 2 only ignore version 3. What it costs is that a version 3 router takes the group for one
        without source filters until the report has aged (RFC 3376, section 7.3.2); the sources are not told in
        /proc/net/igmp anyway. For IPv6 MLDv2 (RFC 3810), which every IPv6 host speaks, as a host that joins.
    """
    source = bytes.fromhex(mac.replace(":", ""))
    v4 = next((a for a in addresses if isinstance(a, IPv4Address)), IPv4Address(0))
    v6 = next((a for a in addresses if isinstance(a, IPv6Address) and a.is_link_local), IPv6Address(0))
    found = [igmp_report(source, v4, group) for group in groups if isinstance(group, IPv4Address)]
    six = [group for group in groups if isinstance(group, IPv6Address)]
    found += (mld_report(source, v6, six[n : n + RECORDS_MAX]) for n in range(0, len(six), RECORDS_MAX))
    return found


def igmp_report(mac: bytes, address: IPv4Address, group: IPv4Address) -> bytes:
    """Return an IGMPv2 membership report: to the group itself, TTL 1, with the router alert (RFC 2236)."""
    message = struct.pack("!BBH", IGMPV2_REPORT, 0, 0) + group.packed
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    length = 20 + len(ROUTER_ALERT_V4) + len(message)
    header = struct.pack("!BBHHHBBH", 0x46, INTERNETWORK_CONTROL, length, 0, 0, 1, IGMP, 0)
    header += address.packed + group.packed + ROUTER_ALERT_V4
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    low = int(group) & 0x7FFFFF  # RFC 1112, section 6.4
    return ethernet(b"\x01\x00\x5e" + low.to_bytes(3, "big"), mac, ETHERTYPE_IPV4, header + message)


def mld_report(mac: bytes, address: IPv6Address, groups: Sequence[IPv6Address]) -> bytes:
    """Return an MLDv2 report that says of each group that it was joined, from any source (RFC 3810)."""
    records = b"".join(struct.pack("!BBH", CHANGE_TO_EXCLUDE, 0, 0) + group.packed for group in groups)
    message = struct.pack("!BBHHH", MLDV2_REPORT, 0, 0, 0, len(groups)) + records
    pseudo = address.packed + MLDV2_ROUTERS.packed + struct.pack("!IxxxB", len(message), ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    options = bytes((ICMPV6, 0)) + ROUTER_ALERT_V6
    header = struct.pack("!IHBB", 6 << 28, len(options) + len(message), HOP_BY_HOP, 1)
    packet = header + address.packed + MLDV2_ROUTERS.packed + options + message
    return ethernet(b"\x33\x33" + MLDV2_ROUTERS.packed[-4:], mac, ETHERTYPE_IPV6, packet)


def _parsed(
    name: str,
    parse: Callable[[str, int], Iterator[IPv4Address | IPv6Address]],
    ifindex: int,
    read: Reader,
) -> list[IPv4Address | IPv6Address]:
    try:
        return list(parse(read(name), ifindex))
    except (OSError, ValueError, IndexError) as error:
        log.debug("multicast groups are not told", file=name, error=str(error))
        return []


def _igmp(text: str, ifindex: int) -> Iterator[IPv4Address]:
    """Parse igmp_mc_seq_show() of net/ipv4/igmp.c: a line a link, then an indented one for each of its groups.

    A group is a number in the byte order of the machine.
    """
    here = False
    for line in text.splitlines()[1:]:
        words = line.split()
        if not line[:1].isspace():
            here = int(words[0]) == ifindex
            continue
        if not here:
            continue
        group = IPv4Address(int(words[0], 16).to_bytes(4, sys.byteorder))
        if group != ALL_HOSTS:
            yield group


def _igmp6(text: str, ifindex: int) -> Iterator[IPv6Address]:
    """Parse igmp6_mc_seq_show() of net/ipv6/mcast.c: index, name, group, users, flags, timer."""
    for line in text.splitlines():
        words = line.split()
        if int(words[0]) != ifindex:
            continue
        group = IPv6Address(bytes.fromhex(words[2]))
        scope = group.packed[1] & 0x0F
        if group != ALL_NODES and scope >= LEAST_REPORTED_SCOPE:
            yield group
