"""ARP probes: the request of RFC 5227, section 2.1.1, which tells nobody's address.

Its sender address is 0.0.0.0, so no cache learns from it; Linux (arp_process() in net/ipv4/arp.c, "IPv4 duplicate
address detection packet") and others answer it to the MAC that asked.
"""

from tapbond.announce import ARP_BODY, ARP_REQUEST, BROADCAST, ETHERTYPE_ARP
from tapbond.probe.frame import ethernet
from tapbond.probe.watcher import Answer, Match

ARP_REPLY = 2
ETHER_HEADER = 14
OPERATION = 20
ETHERNET_IPV4 = (1, 0x0800, 6, 4)
"""Hardware type, protocol, and the lengths of their addresses (RFC 826)."""


class ArpWatcher:
    """Asks for an IPv4 address."""

    name = "arp"
    pattern: tuple[Match, ...] = (Match(2, 12, ETHERTYPE_ARP), Match(2, OPERATION, ARP_REPLY))

    def probe(self, mac: bytes, address: bytes) -> bytes:
        """Return a broadcast request for ``address`` from ``mac`` and 0.0.0.0."""
        body = ARP_BODY.pack(*ETHERNET_IPV4, ARP_REQUEST, mac, bytes(4), bytes(6), address)
        return ethernet(BROADCAST, mac, ETHERTYPE_ARP, body)

    def answer(self, frame: bytes) -> Answer | None:
        """Return who says that the address is its own; the target hardware address says who had asked."""
        if len(frame) < ETHER_HEADER + ARP_BODY.size or frame[12:14] != ETHERTYPE_ARP.to_bytes(2):
            return None
        *kind, operation, _, address, mac, _ = ARP_BODY.unpack_from(frame, ETHER_HEADER)
        if tuple(kind) != ETHERNET_IPV4 or operation != ARP_REPLY:
            return None
        return Answer(address, mac)
