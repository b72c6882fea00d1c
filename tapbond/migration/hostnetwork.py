"""The host's side of a guest's network, as far as a migration changes it: forwarding tables and MACs of VFs."""

from typing import Protocol

from tapbond.migration.facts import FdbEntry
from tapbond.model import Link


class HostNetwork(Protocol):
    """The links of one network namespace. Every method may raise the errors of Rtnetlink."""

    async def open(self) -> None:
        """Open it."""

    async def close(self) -> None:
        """Close it; again is harmless."""

    async def find(self, name: str) -> Link | None:
        """Return the link of this name, None: there is none."""

    async def name_of(self, ifindex: int) -> str:
        """Return the name of a link, empty where it has gone."""

    async def link_of(self, pci: str) -> str:
        """Return the name of the first link of a PCI device, empty where it has none in this namespace."""

    async def entries(self, mac: str) -> list[FdbEntry]:
        """Return the entries for a MAC that somebody made, in every table; not what bridges have learned."""

    async def add(self, entry: FdbEntry) -> None:
        """Make an entry; one that a bridge has learned is replaced, one that is there is fine."""

    async def remove(self, entry: FdbEntry) -> None:
        """Remove an entry; one that has gone is fine."""

    async def vf_mac(self, pf: str, vf: int) -> str | None:
        """Return the MAC that a PF gives its VF, None: it has no such VF.

        Raises:
            NoSuchInterfaceError: there is no such PF.
        """

    async def set_vf_mac(self, pf: str, vf: int, mac: str) -> None:
        """Give a VF its MAC."""
