"""The steps that are done on the host's network: MACs of VFs, and entries of forwarding tables."""

from dataclasses import dataclass

from tapbond.migration.errors import StepError
from tapbond.migration.facts import ZERO_MAC, FdbEntry
from tapbond.migration.hypervisor import Report
from tapbond.migration.step import Site


@dataclass(frozen=True)
class SetVfMac:
    """The MAC that the PF's switch delivers to the VF."""

    pf: str
    vf: int
    mac: str
    was: str
    key: str = "vf-mac"
    final: bool = False

    @property
    def text(self) -> str:
        """See Step."""
        return f"ip link set {self.pf} vf {self.vf} mac {self.mac}"

    @property
    def undo_text(self) -> str:
        """See Step."""
        return f"ip link set {self.pf} vf {self.vf} mac {self.was}"

    async def do(self, site: Site, _report: Report) -> None:
        """See Step."""
        await site.network.set_vf_mac(self.pf, self.vf, self.mac)

    async def verify(self, site: Site) -> None:
        """See Step. Some drivers give a VF without a MAC a random one."""
        found = await site.network.vf_mac(self.pf, self.vf)
        if found != self.mac and (self.mac != ZERO_MAC or found == self.was):
            raise StepError(f"{self.pf}: VF {self.vf} has the MAC {found}, not {self.mac}, though it was set")

    async def undo(self, site: Site) -> None:
        """See Step."""
        await site.network.set_vf_mac(self.pf, self.vf, self.was)


@dataclass(frozen=True)
class AddEntry:
    """An entry of a forwarding table."""

    entry: FdbEntry
    final: bool = False

    @property
    def key(self) -> str:
        """See Step."""
        return f"fdb-{self.entry.link}-{'master' if self.entry.master else 'self'}"

    @property
    def text(self) -> str:
        """See Step."""
        return self.entry.command("replace" if self.entry.master else "add")

    @property
    def undo_text(self) -> str:
        """See Step."""
        return self.entry.command("del")

    async def do(self, site: Site, _report: Report) -> None:
        """See Step."""
        await site.network.add(self.entry)

    async def verify(self, site: Site) -> None:
        """See Step."""
        if self.entry not in await site.network.entries(self.entry.mac):
            raise StepError(f"{self.entry.link}: {self.entry.mac} is not in its table though it was added")

    async def undo(self, site: Site) -> None:
        """See Step."""
        await site.network.remove(self.entry)


@dataclass(frozen=True)
class RemoveEntry:
    """An entry that is there, and goes."""

    entry: FdbEntry
    undo_text: str = ""
    final: bool = False

    @property
    def key(self) -> str:
        """See Step."""
        return f"fdb-clean-{self.entry.link}-{'master' if self.entry.master else 'self'}"

    @property
    def text(self) -> str:
        """See Step."""
        return self.entry.command("del")

    async def do(self, site: Site, _report: Report) -> None:
        """See Step."""
        await site.network.remove(self.entry)

    async def verify(self, site: Site) -> None:
        """See Step."""
        if self.entry in await site.network.entries(self.entry.mac):
            raise StepError(f"{self.entry.link}: {self.entry.mac} is still in its table though it was removed")

    async def undo(self, site: Site) -> None:
        """See Step."""
        await site.network.add(self.entry)
