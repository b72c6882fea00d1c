"""What an interface wants to hear beside its own MAC and broadcast: its device's lists, as values.

The kernel's dev_mc_sync_multiple() and dev_uc_sync_multiple() (net/core/dev_addr_lists.c) copy such lists from a
bond or a net_failover to its slaves; here packet sockets ask for the same by their memberships (packet(7)).
"""

from collections.abc import Iterable

import msgspec

PACKET_MR_MULTICAST = 0
PACKET_MR_PROMISC = 1
PACKET_MR_ALLMULTI = 2
PACKET_MR_UNICAST = 3

Membership = tuple[int, bytes]
"""PACKET_MR_*, and the address where it is about one."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be heard beside the own MAC and broadcast; addresses are 6 bytes."""

    multicast: frozenset[bytes] = frozenset()
    unicast: frozenset[bytes] = frozenset()
    """MACs beside its own: of macvlans on it, or given by ``bridge fdb add``."""
    allmulti: bool = False
    promisc: bool = False

    @classmethod
    def of_tap(cls, addresses: Iterable[bytes], promiscuity: int, allmulti: int) -> "Filters":
        """Return what a TAP wants to hear.

        Args:
            addresses: of both its lists.
            promiscuity: IFLA_PROMISCUITY. A TAP cannot filter unicast (no IFF_UNICAST_FLT), so the kernel counts
                one for as long as there is any further unicast address (__dev_set_rx_mode() in net/core/dev.c).
            allmulti: IFLA_ALLMULTI.
        """
        groups: set[bytes] = set()
        stations: set[bytes] = set()
        for address in addresses:
            (groups if address[0] & 1 else stations).add(address)
        return cls(
            multicast=frozenset(groups),
            unicast=frozenset(stations),
            allmulti=allmulti > 0,
            promisc=promiscuity > bool(stations),
        )

    def memberships(self) -> frozenset[Membership]:
        """Return what a packet socket has to ask for."""
        found = {(PACKET_MR_MULTICAST, address) for address in self.multicast}
        found |= {(PACKET_MR_UNICAST, address) for address in self.unicast}
        if self.allmulti:
            found.add((PACKET_MR_ALLMULTI, b""))
        if self.promisc:
            found.add((PACKET_MR_PROMISC, b""))
        return frozenset(found)


EVERYTHING = Filters(allmulti=True, promisc=True)
"""Where nobody knows what is wanted: a frame too many does less harm than one that is missing."""


def difference(old: Filters, new: Filters) -> tuple[list[Membership], list[Membership]]:
    """Return the memberships to add and those to drop, in a stable order; add first, so that nothing is missed."""
    before, after = old.memberships(), new.memberships()
    return sorted(after - before), sorted(before - after)
