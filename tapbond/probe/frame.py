"""What an ARP and a neighbour probe have in common: the Ethernet around them."""

import struct

MIN_FRAME = 60


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """Return an Ethernet frame without FCS, padded to the shortest that there is."""
    return (destination + source + struct.pack("!H", ethertype) + payload).ljust(MIN_FRAME, b"\0")
