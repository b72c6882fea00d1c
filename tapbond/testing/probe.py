"""Hosts that answer probes, over paths that may be silent."""

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from tapbond.announce import ARP_BODY, ETHERTYPE_ARP, ETHERTYPE_IPV6, HOP_LIMIT, ICMPV6, checksum
from tapbond.model import Link
from tapbond.probe.arp import ARP_REPLY, ETHERNET_IPV4
from tapbond.probe.frame import ethernet
from tapbond.probe.neighbour import PSEUDO_HEADER, link_local
from tapbond.testing.clock import VirtualClock

HOST_MAC = bytes.fromhex("52540000beef")
SOLICITED = 0x40000000


def arp_reply(address: IPv4Address, mac: bytes) -> bytes:
    """Return what the host with this address answers to an ARP probe from ``mac``."""
    body = ARP_BODY.pack(*ETHERNET_IPV4, ARP_REPLY, HOST_MAC, address.packed, mac, bytes(4))
    return ethernet(mac, HOST_MAC, ETHERTYPE_ARP, body)


def advertisement(address: IPv6Address, mac: bytes) -> bytes:
    """Return what the host with this address answers to a solicitation from ``mac``."""
    source, destination = address.packed, link_local(mac)
    message = struct.pack("!BBHI", 136, 0, 0, SOLICITED) + source + struct.pack("!BB6s", 2, 1, HOST_MAC)
    total = checksum(PSEUDO_HEADER.pack(source, destination, len(message), ICMPV6) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, HOP_LIMIT)
    return ethernet(mac, HOST_MAC, ETHERTYPE_IPV6, header + source + destination + message)


@dataclass
class FakeSegment:
    """A network of hosts that answer probes at once; the test says over which links.

    Args:
        clock: stamps the frames.
    """

    clock: VirtualClock
    hosts: set[str] = field(default_factory=set)
    """Addresses that answer."""
    silent: set[str] = field(default_factory=set)
    """Links over which nothing passes."""
    failing: set[str] = field(default_factory=set)
    """Links on which nothing can be sent."""
    flooded: bool = False
    """Answers come over every link, as from a switch that has forgotten a MAC."""
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    """The name of the link and the frame, oldest first."""
    ports: list["FakeProbePort"] = field(default_factory=list)
    """Those that are open."""

    def open_port(self, link: Link, mac: bytes) -> "FakeProbePort":
        """Open a port, as tapbond.probe.prober.PortOpener."""
        port = FakeProbePort(self, link, mac)
        self.ports.append(port)
        return port

    def pass_probe(self, port: "FakeProbePort", frame: bytes) -> None:
        """Let the hosts hear a probe, and answer it."""
        self.sent.append((port.link.name, frame))
        if port.link.name in self.silent:
            return
        for host in sorted(self.hosts):
            if (answer := self._answer(host, frame)) is None:
                continue
            for hearing in self.ports if self.flooded else (port,):
                if hearing.link.name not in self.silent:
                    hearing.inbox.append((answer, self.clock()))

    def _answer(self, host: str, frame: bytes) -> bytes | None:
        address, mac = ip_address(host), frame[6:12]
        if address.packed not in frame:
            return None
        return arp_reply(address, mac) if isinstance(address, IPv4Address) else advertisement(address, mac)


class FakeProbePort:
    """A ProbePort on a FakeSegment."""

    def __init__(self, segment: FakeSegment, link: Link, mac: bytes) -> None:
        self.link = link
        self.mac = mac
        """What it may probe with beside the link's own."""
        self.inbox: list[tuple[bytes, int | None]] = []
        self._segment = segment

    def send(self, frame: bytes) -> int | None:
        """Send a frame; return when, None: it could not be sent."""
        if self.link.name in self._segment.failing:
            return None
        now_ns = self._segment.clock()
        self._segment.pass_probe(self, frame)
        return now_ns

    def receive(self) -> list[tuple[bytes, int | None]]:
        """Return what has arrived."""
        found, self.inbox = self.inbox, []
        return found

    def close(self) -> None:
        """Hear no more."""
        self._segment.ports.remove(self)
