"""What a failover has adopted, in a file that survives whatever happens to its writer."""

from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from tapbond.addresses import IFA_LABEL, address_key, is_learnt
from tapbond.holdings import Holdings
from tapbond.links import Links
from tapbond.model import Link
from tapbond.routes import learnt_route, route_identity


class Stage(StrEnum):
    """How far it has come."""

    HELD = "held"
    """The TAP has the addresses too; the standby is as it was."""
    MOVING = "moving"
    """Some of it is here and some there, on the way to the TAP or back."""
    MOVED = "moved"
    """All of it has moved: what the TAP has is the truth."""


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What moves, as it was before."""

    ifindex: int
    name: str
    mac: str
    """The standby's, as are those above."""
    failover: str
    """Name of the TAP when it was made."""
    tap: int
    """ifindex of the TAP."""
    held: Holdings
    """By the standby."""
    own: Holdings
    """What the TAP had already: a persistent one keeps it."""
    stage: Stage = Stage.HELD

    @property
    def standby(self) -> Link:
        """The link that it was taken from."""
        return Link(ifindex=self.ifindex, name=self.name, mac=self.mac)

    def standby_now(self, links: Links) -> Link | None:
        """Return the standby, also if it was plugged in again or renamed meanwhile; None: it has gone."""
        link = links.by_index.get(self.ifindex)
        if link is not None and link.mac == self.mac:
            return link
        return next(
            (found for found in links.by_index.values() if (found.name, found.mac) == (self.name, self.mac)), None
        )

    def tap_now(self, links: Links) -> Link | None:
        """Return the TAP, also if it was renamed meanwhile; None: it has gone."""
        link = links.by_index.get(self.tap)
        return link if link is not None and (link.name == self.failover or link.mac == self.mac) else None

    def now_held(self, held: Holdings, standby: Link, stage: Stage) -> Self:
        """Return it with what the standby is to get in the end."""
        return msgspec.structs.replace(self, held=held, ifindex=standby.ifindex, name=standby.name, stage=stage)

    def counted(self) -> str:
        """Return how much it is, in words."""
        held = self.held
        parts = (len(held.addresses), "address"), (len(held.routes), "route"), (len(held.neighbours), "neighbour")
        plural = {"address": "es"}
        return ", ".join(f"{n} {what}{'' if n == 1 else plural.get(what, 's')}" for n, what in parts)


class AdoptionFile:
    """Where it is written down; the file exists only while there is something to give back.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Adopted | None:
        """Return what an earlier process did not give back; an unreadable file holds nothing."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Adopted)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, adopted: Adopted) -> None:
        """Write it down, whole or not at all."""
        draft = self._path.with_suffix(".adopted-new")
        draft.write_bytes(msgspec.json.encode(adopted))
        draft.replace(self._path)

    def clear(self) -> None:
        """Cross it out."""
        self._path.unlink(missing_ok=True)


def as_it_was(present: Holdings, held: Holdings) -> Holdings:
    """Return what the TAP has without what it learnt for itself, and with the labels that there were."""
    known = {address_key(address): address.get(IFA_LABEL) for address in held.addresses}
    routes = {route_identity(route) for route in held.routes}
    return msgspec.structs.replace(
        present,
        addresses=tuple(
            address.with_attributes({IFA_LABEL: known[address_key(address)]})
            if known.get(address_key(address))
            else address
            for address in present.addresses
            if address_key(address) in known or not is_learnt(address)
        ),
        routes=tuple(r for r in present.routes if route_identity(r) in routes or not learnt_route(r)),
    )
