"""What a link holds: its addresses, the routes through it and its neighbours; and the same on another link. Pure.

The numbers are those of linux/neighbour.h.
"""

import ipaddress
import struct
from collections.abc import Callable, Hashable, Iterable
from typing import Self

import msgspec

from tapbond.addresses import IP, address_index, address_key, moved_address
from tapbond.model import Link
from tapbond.routes import movable_route, moved_route, outs, route_identity
from tapbond.rtmessage import RTM_NEWADDR, RTM_NEWNEIGH, Message

NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""ndmsg: family, ifindex, state, flags, type."""
NDA_DST, NDA_LLADDR, NDA_PROTOCOL = 1, 2, 12
NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x80
NTF_EXT_LEARNED, NTF_ROUTER = 0x10, 0x80


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """All of one link, in the kernel's order."""

    addresses: tuple[Message, ...] = ()
    routes: tuple[Message, ...] = ()
    neighbours: tuple[Message, ...] = ()
    taken_ns: int = 0
    """CLOCK_BOOTTIME of the dump, from which lifetimes count."""

    @classmethod
    def of(cls, link: Link, messages: Iterable[Message], taken_ns: int) -> Self:
        """Pick what is a link's, and may be moved, out of a dump of everything."""
        found = list(messages)
        return cls(
            addresses=tuple(m for m in found if m.kind == RTM_NEWADDR and address_index(m) == link.ifindex),
            routes=tuple(m for m in found if movable_route(m) and link.ifindex in outs(m)),
            neighbours=tuple(m for m in found if _movable_neighbour(m) and _neighbour_index(m) == link.ifindex),
            taken_ns=taken_ns,
        )

    def moved(self, source: Link, target: Link, now_ns: int) -> Self:
        """Return the same as it is to be on another link; what has expired meanwhile is left out."""
        elapsed_s = max(0, now_ns - self.taken_ns) // 10**9
        return type(self)(
            addresses=_kept(self.addresses, lambda m: moved_address(m, source, target, elapsed_s)),
            routes=_kept(self.routes, lambda m: moved_route(m, source, target, elapsed_s)),
            neighbours=_kept(self.neighbours, lambda m: moved_neighbour(m, target)),
            taken_ns=now_ns,
        )

    def without(self, other: "Holdings") -> Self:
        """Return what is not in another one too."""
        addresses = {address_key(m) for m in other.addresses}
        routes = {route_identity(m) for m in other.routes}
        neighbours = {neighbour_key(m) for m in other.neighbours}
        return msgspec.structs.replace(
            self,
            addresses=tuple(m for m in self.addresses if address_key(m) not in addresses),
            routes=tuple(m for m in self.routes if route_identity(m) not in routes),
            neighbours=tuple(m for m in self.neighbours if neighbour_key(m) not in neighbours),
        )


def _kept(messages: Iterable[Message], move: Callable[[Message], Message | None]) -> tuple[Message, ...]:
    return tuple(moved for message in messages if (moved := move(message)) is not None)


def _neighbour_index(message: Message) -> int:
    return int(NEIGHBOUR.unpack(message.header)[1])


def neighbour_key(message: Message) -> Hashable:
    """Return what makes a neighbour of a link the same one."""
    return message.header[0], message.get(NDA_DST)


def neighbour_text(message: Message) -> str:
    """Return a neighbour's address as it is written."""
    return str(ipaddress.ip_address(message.get(NDA_DST) or b""))


def is_permanent(message: Message) -> bool:
    """Return whether a neighbour was entered by hand."""
    return bool(NEIGHBOUR.unpack(message.header)[2] & NUD_PERMANENT)


def _movable_neighbour(message: Message) -> bool:
    """Return whether its MAC is known and was not made of a group's address."""
    if message.kind != RTM_NEWNEIGH or message.get(NDA_LLADDR) is None:
        return False
    family, _, state, *_ = NEIGHBOUR.unpack(message.header)
    known = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT
    return family in IP and bool(state & known)


def moved_neighbour(message: Message, target: Link) -> Message:
    """Return a neighbour of another link; one that is being asked after is merely old there."""
    family, _, state, flags, kind = NEIGHBOUR.unpack(message.header)
    if state & (NUD_DELAY | NUD_PROBE):
        state = NUD_STALE
    flags &= NTF_EXT_LEARNED | NTF_ROUTER
    kept = tuple((number, value) for number, value in message.attributes if number in _NEIGHBOUR_ATTRIBUTES)
    header = NEIGHBOUR.pack(family, target.ifindex, state, flags, kind)
    return msgspec.structs.replace(message, header=header, attributes=kept)


_NEIGHBOUR_ATTRIBUTES = (NDA_DST, NDA_LLADDR, NDA_PROTOCOL)
