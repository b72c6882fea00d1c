"""Whose MAC is whose: one small object a policy, picked by name from POLICIES.

``fail_over_mac`` in Documentation/networking/bonding.rst is the same question: its ``none`` is SET here and its
``active`` is FOLLOW; SAME is net_failover's, which only takes links that have the MAC already.
"""

import errno
from typing import Protocol

from tapbond.errors import LinkRequestError, RefusedError
from tapbond.model import Link, MacPolicyName
from tapbond.rtnetlink import Rtnetlink


class MacPolicy(Protocol):
    """What a link's MAC must be, and what becomes of it."""

    name: MacPolicyName
    follows: bool
    """The failover takes the MAC of the slave that sends."""
    gives: bool
    """Slaves get the failover's MAC."""

    def refusal(self, failover: str, link: Link, mac: str) -> str:
        """Return why a link may not be a slave of a failover with this MAC, with the way out; empty: it may."""

    def why_fixed(self, failover: str, mac: str) -> str:
        """Return why the failover's own MAC may not be changed by hand; empty: it may."""

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Give a slave the MAC that it needs; raises RefusedError and leaves it as it was when that fails."""


class SameMac:
    """Only links that have the failover's MAC; none is changed."""

    name = MacPolicyName.SAME
    follows = False
    gives = False

    def refusal(self, failover: str, link: Link, mac: str) -> str:
        """Return why another MAC is refused, and what to do."""
        if link.mac == mac:
            return ""
        way_out = f"ip link set {link.name} address {mac}; or --mac-policy set"
        return f"its MAC {link.mac} is not {failover}'s {mac} ({way_out})"

    def why_fixed(self, failover: str, mac: str) -> str:
        """Return that the slaves need it."""
        return f"the slaves of {failover} have the MAC {mac} (--mac-policy set gives them another)"

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Do nothing."""


class SetMac:
    """Each slave gets the failover's MAC; its own comes back from the journal."""

    name = MacPolicyName.SET
    follows = False
    gives = True

    def refusal(self, failover: str, link: Link, mac: str) -> str:  # noqa: ARG002
        """Return nothing: any MAC can be changed, until the kernel says no."""
        return ""

    def why_fixed(self, failover: str, mac: str) -> str:  # noqa: ARG002
        """Return nothing: the slaves get it too."""
        return ""

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Set the MAC; a driver that does not change it on an open link (EBUSY) gets it on a closed one."""
        if link.mac == mac:
            return
        try:
            await rtnetlink.set_mac(link, mac)
        except LinkRequestError as error:
            if error.code != errno.EBUSY or not link.up:
                raise RefusedError(link.name, f"does not take the MAC {mac} ({error.reason})") from error
            await self._take_closed(rtnetlink, link, mac)

    async def _take_closed(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        await rtnetlink.set_up(link, False)
        try:
            await rtnetlink.set_mac(link, mac)
        except LinkRequestError as error:
            raise RefusedError(link.name, f"does not take the MAC {mac} ({error.reason})") from error
        finally:
            await rtnetlink.set_up(link, True)


class FollowMac:
    """Each slave keeps its own MAC; the failover takes that of the slave that sends."""

    name = MacPolicyName.FOLLOW
    follows = True
    gives = False

    def refusal(self, failover: str, link: Link, mac: str) -> str:  # noqa: ARG002
        """Return nothing: any MAC will do."""
        return ""

    def why_fixed(self, failover: str, mac: str) -> str:
        """Return whose it is."""
        return f"{failover} follows the MAC of its active slave, {mac}"

    async def take(self, rtnetlink: Rtnetlink, link: Link, mac: str) -> None:
        """Do nothing."""


POLICIES: dict[MacPolicyName, MacPolicy] = {policy.name: policy for policy in (SameMac(), SetMac(), FollowMac())}
