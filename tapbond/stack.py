"""The links that are stacked on another one and speak through it: VLANs and macvlans, in any order and depth.

Only those of the namespace that is looked at: a link whose parent is elsewhere (IFLA_LINK_NETNSID) has none here.
"""

from collections.abc import Mapping

import msgspec

from tapbond.model import Link

STACKABLE = frozenset({"vlan", "macvlan", "macvtap"})
"""Kinds whose IFLA_LINK is what they are stacked on; a veth's, for one, is its peer."""


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who speaks through a link: itself, or one that is stacked on it."""

    ifindex: int
    mac: str
    """``aa:bb:cc:dd:ee:ff``."""
    tags: tuple[tuple[int, int], ...] = ()
    """TPID and id of the VLANs that its frames carry, the outermost first."""


def voices(links: Mapping[int, Link], ifindex: int, mac: str) -> list[Voice]:
    """Return who speaks through a link, itself first; stacked links that are down do not.

    Args:
        links: all links by index.
        ifindex: the link.
        mac: its address, which may be about to change.
    """
    found = [Voice(ifindex=ifindex, mac=mac)]
    upper: dict[int, list[Link]] = {}
    for link in links.values():
        if link.kind in STACKABLE and link.up:
            upper.setdefault(link.parent, []).append(link)
    seen = {ifindex}
    for voice in found:  # which grows
        for link in sorted(upper.get(voice.ifindex, ()), key=lambda link: link.ifindex):
            if link.ifindex not in seen:
                seen.add(link.ifindex)
                found.append(_on_top(voice, link))
    return found


def _on_top(below: Voice, link: Link) -> Voice:
    tags = (*below.tags, link.vlan) if link.vlan is not None else below.tags
    return Voice(ifindex=link.ifindex, mac=link.mac, tags=tags)
