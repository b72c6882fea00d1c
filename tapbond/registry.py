"""Which link becomes whose slave: the matching and the refusals of net/core/failover.c.

Pure: it is told what links there are and answers; it touches none.
"""

from collections.abc import Mapping

from tapbond import kernelpair
from tapbond.errors import RefusedError
from tapbond.macpolicy import POLICIES, MacPolicy
from tapbond.model import Link, MacPolicyName, Role, Slots
from tapbond.settings import Backup

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
        mac: the failover's MAC.
        standby: name of the standby, None: the first link found with the MAC.
        primary: name of the primary, None: any other link found with the MAC.
        backups: slaves beside those two.
        slots: whether there may be any.
        mac_policy: what a slave's MAC must be.
    """

    def __init__(
        self,
        failover: str,
        mac: str,
        standby: str | None,
        primary: str | None,
        *,
        backups: tuple[Backup, ...] = (),
        slots: Slots = Slots.ANY,
        mac_policy: MacPolicy = POLICIES[MacPolicyName.SAME],
    ) -> None:
        self.failover = failover
        self.mac = mac
        self.named: dict[Role, str | None] = {Role.STANDBY: standby, Role.PRIMARY: primary}
        self.backups = {backup.link: backup.prio for backup in backups}
        """``prio`` of each by name."""
        self._slots = slots
        self._mac_policy = mac_policy
        self.taken: dict[tuple[int, int], tuple[Role, Link]] = {}
        """Who is a slave, by namespace and ifindex."""

    def take(self, role: Role, link: Link) -> None:
        """Note that a link is a slave now."""
        self.taken[link.key] = role, link

    def free(self, link: Link) -> None:
        """Note that a link is no slave any more; again is harmless."""
        self.taken.pop(link.key, None)

    def holds(self, link: Link) -> Role | None:
        """Return the role of a registered link, else None."""
        return self.taken[link.key][0] if link.key in self.taken else None

    def occupant(self, role: Role) -> Link | None:
        """Return who is in a slot; a backup has none, there is room for all."""
        if role is Role.BACKUP:
            return None
        return next((link for taken, link in self.taken.values() if taken is role), None)

    def wanted_role(self, link: Link) -> Role | None:
        """Return the role that this link is meant for, None when it is none of ours.

        A name decides first. Otherwise the MAC does: the permanent one, as in failover_get_bymac(), else the
        one in use. A link with our MAC under a new name is a re-plug.
        """
        for role, name in self.named.items():
            if name == link.name:
                return role
        if link.name in self.backups:
            return Role.BACKUP
        if not self.has_mac(link) or link.kind in STACKED_KINDS:
            return None
        standby, primary = self.occupant(Role.STANDBY), self.occupant(Role.PRIMARY)
        if standby is None and (self.named[Role.STANDBY] is None or primary is not None):
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
        if reason := kernelpair.refusal(link, links):
            raise RefusedError(link.name, reason)
        if role is Role.BACKUP and self._slots is Slots.KERNEL:
            raise RefusedError(
                link.name, f"{self.failover} has two slots only (--slots kernel, --rx kernel): no backups"
            )
        occupant = self.occupant(role)
        if occupant is not None and occupant.key != link.key:
            way_out = f" (tapbond add {self.failover} {link.name} --prio N takes it as a backup)"
            raise RefusedError(
                link.name,
                f"attempting to register as {role} when {occupant.name} is already present"
                + (way_out if self._slots is Slots.ANY else ""),
            )
        if (other := self.holds(link)) is not None:
            raise RefusedError(link.name, f"already the {other} of {self.failover}")
        if link.master:
            master = links.get(link.master)
            name = master.name if master else f"ifindex {link.master}"
            raise RefusedError(link.name, f"already a port of {name} (free it: ip link set {link.name} nomaster)")
        if reason := self._mac_policy.refusal(self.failover, link, self.mac):
            raise RefusedError(link.name, reason)
