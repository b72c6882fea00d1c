"""Which link becomes whose slave: the matching and the refusals of net/core/failover.c.

Pure: it is told what links there are and answers; it touches none.
"""

from collections.abc import Mapping

from tapbond.errors import RefusedError
from tapbond.model import Link, Role

STACKED_KINDS = frozenset(
    (
        *("bond", "bridge", "dummy", "ifb", "ipvlan", "ipvtap", "macsec", "macvlan", "macvtap"),
        *("openvswitch", "team", "tun", "vlan", "vrf", "vxlan"),
    )
)
"""Kinds that often borrow the MAC of a link below them: taken as slaves only when named."""


class Registry:
    """The slots of one failover.

    Args:
        failover: its name, for messages.
        mac: the MAC that a slave must have.
        standby: name of the standby, None: the first link found with the MAC.
        primary: name of the primary, None: any other link found with the MAC.
    """

    def __init__(self, failover: str, mac: str, standby: str | None, primary: str | None) -> None:
        self.failover = failover
        self.mac = mac
        self.named = {Role.STANDBY: standby, Role.PRIMARY: primary}
        self.taken: dict[Role, Link] = {}
        """Who is in each slot."""

    def holds(self, ifindex: int) -> Role | None:
        """Return the role of a registered link, else None."""
        return next((role for role, link in self.taken.items() if link.ifindex == ifindex), None)

    def wanted_role(self, link: Link) -> Role | None:
        """Return the role that this link is meant for, None when it is none of ours.

        A name decides first. Otherwise the MAC does: the permanent one, as in failover_get_bymac(), else the
        one in use. A link with our MAC under a new name is a re-plug.
        """
        for role, name in self.named.items():
            if name == link.name:
                return role
        if not self.has_mac(link) or link.kind in STACKED_KINDS:
            return None
        if self.named[Role.STANDBY] is None and Role.STANDBY not in self.taken:
            return Role.STANDBY
        if Role.PRIMARY in self.taken and Role.STANDBY not in self.taken:
            return Role.STANDBY
        return Role.PRIMARY

    def has_mac(self, link: Link) -> bool:
        """Return whether the link has the failover's MAC."""
        return self.mac in (link.permanent_mac, link.mac)

    def check(self, link: Link, role: Role, links: Mapping[int, Link]) -> None:
        """Check that a link may take a slot.

        Args:
            link: the candidate.
            role: the slot.
            links: all links, to name a master by its name.

        Raises:
            RefusedError: it may not; the reason says why and what to do.
        """
        if not link.ethernet:
            raise RefusedError(link.name, "not an Ethernet link")
        occupant = self.taken.get(role)
        if occupant is not None:
            raise RefusedError(
                link.name, f"attempting to register as {role} when {occupant.name} is already present"
            )
        if (other := self.holds(link.ifindex)) is not None:
            raise RefusedError(link.name, f"already the {other} of {self.failover}")
        if link.master:
            master = links.get(link.master)
            name = master.name if master else f"ifindex {link.master}"
            raise RefusedError(link.name, f"already a port of {name} (free it: ip link set {link.name} nomaster)")
        if link.mac != self.mac:
            raise RefusedError(
                link.name,
                f"its MAC {link.mac} is not {self.failover}'s {self.mac}"
                f" (ip link set {link.name} address {self.mac})",
            )
