"""The requests, in order, by which one link gets what another one holds. Pure.

Addresses come first and leave last: the kernel refuses a route that prefers a source which is no address of
this host, and takes every such route away when that address leaves its last link (fib_sync_down_addr() in
net/ipv4/fib_semantics.c). In between both links have them, and every packet finds its way by either.
"""

import errno
from collections.abc import Hashable, Iterable, Sequence

import msgspec

from tapbond.addresses import IFA_ADDRESS, IFA_F_NODAD, IFA_LOCAL, address_flags, address_text, is_ipv6, with_flags
from tapbond.holdings import Holdings, is_permanent, neighbour_text
from tapbond.model import Link
from tapbond.routes import (
    ROUTE,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_VIA,
    RTPROT_KERNEL,
    outs,
    route_identity,
    route_key,
    route_text,
)
from tapbond.rtmessage import DELETE, RTM_NEWROUTE, Message

NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

ALREADY_GONE = (errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV)


class Step(msgspec.Struct, frozen=True):
    """One request."""

    what: str
    """What it tries, for an error: ``eth0: cannot add 10.0.0.1/24``."""
    message: Message
    flags: int = 0
    """NLM_F_*."""
    tolerated: tuple[int, ...] = ()
    """Each errno that means that nothing is left to do."""


def add_addresses(wanted: Holdings, link: Link) -> list[Step]:
    """Give a link addresses, the first ones first: of two in one subnet the second is the secondary.

    An IPv6 address is not asked after first: for the second that this takes nobody could be answered
    (IFA_F_NODAD). The flag is taken off again, for whoever looks at the address later.
    """
    steps = []
    for address in wanted.addresses:
        what = f"{link.name}: cannot add {address_text(address)}"
        flags = address_flags(address)
        if is_ipv6(address) and not flags & IFA_F_NODAD:
            steps.append(Step(what, with_flags(address, flags | IFA_F_NODAD), NLM_F_CREATE | NLM_F_REPLACE))
        steps.append(Step(what, address, NLM_F_CREATE | NLM_F_REPLACE))
    return steps


def remove_addresses(addresses: Sequence[Message], link: Link) -> list[Step]:
    """Take addresses off a link, the last first: one that goes takes its secondaries along."""
    return [
        Step(
            f"{link.name}: cannot remove {address_text(address)}",
            msgspec.structs.replace(
                address,
                kind=DELETE[address.kind],
                attributes=tuple(a for a in address.attributes if a[0] in (IFA_ADDRESS, IFA_LOCAL)),
            ),
            tolerated=ALREADY_GONE,
        )
        for address in reversed(addresses)
    ]


def add_neighbours(wanted: Holdings, link: Link) -> list[Step]:
    """Tell a link its neighbours, so that nothing waits for ARP or neighbour discovery."""
    return [
        Step(f"{link.name}: cannot add neighbour {neighbour_text(found)}", found, NLM_F_CREATE | NLM_F_REPLACE)
        for found in wanted.neighbours
    ]


def remove_neighbours(neighbours: Iterable[Message], link: Link) -> list[Step]:
    """Take the neighbours that were entered by hand off a link; it forgets the others by itself."""
    return [
        Step(
            f"{link.name}: cannot remove neighbour {neighbour_text(found)}",
            msgspec.structs.replace(found, kind=DELETE[found.kind]),
            tolerated=ALREADY_GONE,
        )
        for found in neighbours
        if is_permanent(found)
    ]


def move_routes(
    old: Sequence[Message], new: Sequence[Message], present: Sequence[Message], link: Link
) -> list[Step]:
    """Replace routes by those through another link.

    Where it is the only one of its key, a route is replaced in place: no packet finds none. Else the new one is
    appended and the old one deleted, because NLM_F_REPLACE takes whichever comes first. What is reached directly
    goes first: a gateway must be reachable through the new link when it is named.

    Args:
        old: as they are; those of them that are left are deleted at the end.
        new: as they are to be.
        present: all routes that there are; what else is among them does not matter.
        link: the new one.
    """
    routes = [message for message in present if message.kind == RTM_NEWROUTE]
    there = {route_identity(message) for message in routes}
    mine = frozenset().union(*map(outs, old), {link.ifindex})
    replaced: set[Hashable] = set()
    steps = []
    for route in sorted(new, key=_depends):
        if route_identity(route) in there:
            continue
        rivals = [message for message in routes if route_key(message) == route_key(route)]
        alone = len(rivals) == 1 and outs(rivals[0]) <= outs(route) | mine and route_key(route) not in replaced
        if alone:
            replaced.update((route_key(route), route_identity(rivals[0])))
        what = f"{link.name}: cannot add route {route_text(route)}"
        how = NLM_F_REPLACE if alone else NLM_F_APPEND
        steps.append(Step(what, route, NLM_F_CREATE | how, (errno.EEXIST,)))
    left = [message for message in old if route_identity(message) not in replaced | set(map(route_identity, new))]
    return steps + remove_routes(left, link)


def remove_routes(routes: Iterable[Message], link: Link) -> list[Step]:
    """Delete routes; those over several links stay, as IPv6 would take the other links' legs along."""
    return [
        Step(
            f"{link.name}: cannot remove route {route_text(route)}",
            msgspec.structs.replace(route, kind=DELETE[route.kind]),
            tolerated=ALREADY_GONE,
        )
        for route in routes
        if route.get(RTA_MULTIPATH) is None
    ]


def unwanted_routes(before: Holdings, now: Holdings, wanted: Holdings) -> list[Message]:
    """Return the routes that came by themselves with the addresses, and that nobody had."""
    known = {route_identity(route) for route in (*before.routes, *wanted.routes)}
    return [
        route
        for route in now.routes
        if ROUTE.unpack(route.header)[5] == RTPROT_KERNEL and route_identity(route) not in known
    ]


def _depends(route: Message) -> tuple[bool, int]:
    """Sort by what must be there first: routes without a gateway, then by scope, the nearest first."""
    gateway = any(route.get(number) is not None for number in (RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH))
    return gateway, -ROUTE.unpack(route.header)[6]
