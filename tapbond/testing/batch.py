"""Addresses, routes and neighbours in memory, by the kernel's rules as far as moving them needs it."""

import errno
import ipaddress
import os
from collections.abc import Sequence

import msgspec

from tapbond.addresses import (
    ADDRESS,
    IFA_ADDRESS,
    IFA_F_NOPREFIXROUTE,
    IFA_LOCAL,
    address_flags,
    address_index,
    address_key,
)
from tapbond.errors import LinkRequestError
from tapbond.holdings import NDA_DST, NDA_LLADDR, NEIGHBOUR, NUD_PERMANENT, neighbour_key
from tapbond.model import Link
from tapbond.moves import NLM_F_REPLACE, Step
from tapbond.routes import (
    MAIN_TABLE,
    ROUTE,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTPROT_KERNEL,
    outs,
    route_identity,
    route_key,
)
from tapbond.rtmessage import DELETE, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE, Message, u32

AF = {4: 2, 6: 10}
RTPROT_STATIC = 4
RT_SCOPE_LINK = 253
NEW = {delete: new for new, delete in DELETE.items()}


def address(link: Link, text: str, flags: int = 0, *, more: Sequence[tuple[int, bytes]] = ()) -> Message:
    """Return an address as a dump shows it: ``10.0.0.1/24``."""
    found = ipaddress.ip_interface(text)
    header = ADDRESS.pack(AF[found.version], found.network.prefixlen, flags & 0xFF, 0, link.ifindex)
    number = IFA_LOCAL if found.version == 4 else IFA_ADDRESS  # noqa: PLR2004
    attributes = {IFA_ADDRESS: found.ip.packed, number: found.ip.packed}
    return Message(RTM_NEWADDR, header, (*attributes.items(), *more)).with_attributes({8: u32(flags)})


def route(
    link: Link,
    text: str,
    via: str | None = None,
    *,
    metric: int = 0,
    table: int = MAIN_TABLE,
    protocol: int = RTPROT_STATIC,
    more: Sequence[tuple[int, bytes]] = (),
) -> Message:
    """Return a route as a dump shows it: ``10.0.0.0/24``."""
    net = ipaddress.ip_network(text)
    scope = 0 if via or net.version == 6 else RT_SCOPE_LINK  # noqa: PLR2004
    header = ROUTE.pack(AF[net.version], net.prefixlen, 0, 0, table, protocol, scope, 1, 0)
    attributes = [(RTA_TABLE, u32(table))]
    if net.prefixlen:
        attributes.append((RTA_DST, net.network_address.packed))
    if metric:
        attributes.append((RTA_PRIORITY, u32(metric)))
    if via:
        attributes.append((RTA_GATEWAY, ipaddress.ip_address(via).packed))
    return Message(RTM_NEWROUTE, header, (*attributes, (RTA_OIF, u32(link.ifindex)), *more))


def neighbour(link: Link, text: str, mac: str, state: int = NUD_PERMANENT) -> Message:
    """Return a neighbour as a dump shows it."""
    found = ipaddress.ip_address(text)
    header = NEIGHBOUR.pack(AF[found.version], link.ifindex, state, 0, 1)
    lladdr = bytes.fromhex(mac.replace(":", ""))
    return Message(RTM_NEWNEIGH, header, ((NDA_DST, found.packed), (NDA_LLADDR, lladdr)))


class FakeBatch:
    """Does what RtBatch does with what is in memory.

    Args:
        messages: what there is at first.
    """

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.messages = list(messages)
        self.steps: list[Step] = []
        """All that were asked for, those that were refused too."""
        self.refuse = -1
        """Which one is refused, from 0."""
        self.die: tuple[int, BaseException] | None = None
        """Before which one the process ends, and how."""

    async def dump(self) -> list[Message]:
        """Return everything."""
        return list(self.messages)

    async def perform(self, steps: Sequence[Step]) -> None:
        """Do all steps; raise why the first of those that failed did."""
        errors = []
        for step in steps:
            if self.die is not None and self.die[0] == len(self.steps):
                raise self.die[1]
            code = errno.EPROTO if self.refuse == len(self.steps) else self._do(step)
            self.steps.append(step)
            if code and code not in step.tolerated:
                errors.append(LinkRequestError(step.what, code, os.strerror(code)))
        if errors:
            raise errors[0]

    def vanish(self, link: Link) -> None:
        """Delete a link: all that it holds goes with it."""
        self.messages = [message for message in self.messages if link.ifindex not in _links(message)]

    def held(self, link: Link) -> set[Message]:
        """Return what a link holds."""
        return {message for message in self.messages if link.ifindex in _links(message)}

    def _do(self, step: Step) -> int:
        message = step.message
        if message.kind in NEW:
            return self._delete(msgspec.structs.replace(message, kind=NEW[message.kind]))
        if message.kind == RTM_NEWROUTE:
            return self._add_route(message, replace=bool(step.flags & NLM_F_REPLACE))
        old = self._find(message)
        if old is None:
            self.messages.append(message)
            if message.kind == RTM_NEWADDR and not address_flags(message) & IFA_F_NOPREFIXROUTE:
                self._add_route(_prefix_route(message), replace=False)
        else:
            self.messages[self.messages.index(old)] = message
        return 0

    def _add_route(self, message: Message, *, replace: bool) -> int:
        if self._find(message) is not None:
            return errno.EEXIST
        rivals = [m for m in self.messages if m.kind == RTM_NEWROUTE and route_key(m) == route_key(message)]
        if replace and rivals:
            self.messages[self.messages.index(rivals[0])] = message
        else:
            self.messages.append(message)
        return 0

    def _delete(self, message: Message) -> int:
        old = self._find(message)
        if old is None:
            return errno.EADDRNOTAVAIL if message.kind == RTM_NEWADDR else errno.ESRCH
        self.messages.remove(old)
        if message.kind == RTM_NEWADDR and not address_flags(old) & IFA_F_NOPREFIXROUTE:
            self._delete(_prefix_route(old))
        return 0

    def _find(self, message: Message) -> Message | None:
        return next(
            (m for m in self.messages if m.kind == message.kind and _identity(m) == _identity(message)), None
        )


def _links(message: Message) -> frozenset[int]:
    if message.kind == RTM_NEWROUTE:
        return outs(message)
    if message.kind == RTM_NEWADDR:
        return frozenset((address_index(message),))
    return frozenset((NEIGHBOUR.unpack(message.header)[1],))


def _identity(message: Message) -> object:
    if message.kind == RTM_NEWROUTE:
        return route_identity(message)
    key = address_key(message) if message.kind == RTM_NEWADDR else neighbour_key(message)
    return _links(message), key


def _prefix_route(message: Message) -> Message:
    """Return the route to its own subnet that the kernel makes with an address."""
    family, prefix_length, _, _, ifindex = ADDRESS.unpack(message.header)
    value = int.from_bytes(message.get(IFA_ADDRESS) or b"")
    bits = 32 if family == AF[4] else 128
    net = (value >> (bits - prefix_length) << (bits - prefix_length)).to_bytes(bits // 8)
    text = f"{ipaddress.ip_address(net)}/{prefix_length}"
    link = Link(ifindex=ifindex, name="", mac="")
    return route(link, text, metric=0 if bits == 32 else 256, protocol=RTPROT_KERNEL)  # noqa: PLR2004
