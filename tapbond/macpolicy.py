"""Whose MAC is whose: one small object a policy, picked by name from POLICIES.

``fail_over_mac`` in Documentation/networking/bonding.rst is the same question: its ``none`` is SET here and its
``active`` is FOLLOW; SAME is net_failover's, which only takes links that have the MAC already.
"""

from typing import Protocol

from tapbond.errors import LinkRequestError, RefusedError
from tapbond.model import Link, MacPolicyName
from tapbond.rtnetlink import Rtnetlink


class MacPolicy(Protocol):
    """What a link's MAC must be, and what becomes of it."""

    name: MacPolicyName
    follows: bool
    """The failover takes the MAC of the slave that sends."""
    spreads: bool
    """A new MAC of the failover goes to its slaves."""

    def refusal(self, failover: str, link: Link, mac: str) -> str:
        """Return why a link may not be a slave of a failover with this MAC, with the way out; empty: it may."""

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Prepare a link that becomes a slave; raises RefusedError and leaves it as it was when that fails."""


class SameMac:
    """Only links that have the failover's MAC; none is changed."""

    name = MacPolicyName.SAME
    follows = False
    spreads = False

    def refusal(self, failover: str, link: Link, mac: str) -> str:
        """Return why another MAC is refused, and what to do."""
        if link.mac == mac:
            return ""
        way_out = f"ip link set {link.name} address {mac}; or --mac-policy set"
        return f"its MAC {link.mac} is not {failover}'s {mac} ({way_out})"

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Do nothing."""


class SetMac:
    """Each slave gets the failover's MAC; its own comes back from the journal."""

    name = MacPolicyName.SET
    follows = False
    spreads = True

    def refusal(self, failover: str, link: Link, mac: str) -> str:  # noqa: ARG002
        """Return nothing: any MAC can be changed, until the kernel says no."""
        return ""

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Set the MAC."""
        if link.mac == mac:
            return
        try:
            await rtnetlink.set_mac(link, mac)
        except LinkRequestError as error:
            raise RefusedError(link.name, f"does not take the MAC {mac} ({error.reason})") from error


class FollowMac:
    """Each slave keeps its own MAC; the failover takes that of the slave that sends."""

    name = MacPolicyName.FOLLOW
    follows = True
    spreads = False

    def refusal(self, failover: str, link: Link, mac: str) -> str:  # noqa: ARG002
        """Return nothing: any MAC will do."""
        return ""

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Do nothing."""


POLICIES: dict[MacPolicyName, MacPolicy] = {policy.name: policy for policy in (SameMac(), SetMac(), FollowMac())}
