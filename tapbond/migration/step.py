"""What a step of a migration is.

Each may be done again, and undone though it was never done: after a crash nobody knows.
"""

from dataclasses import dataclass
from typing import Protocol

from tapbond.migration.hostnetwork import HostNetwork
from tapbond.migration.hypervisor import Hypervisor, Report


@dataclass(frozen=True)
class Site:
    """Where steps are done."""

    hypervisor: Hypervisor
    network: HostNetwork


class Step(Protocol):
    """One of them."""

    @property
    def key(self) -> str:
        """What it is in the journal: no two of a plan have the same."""

    @property
    def text(self) -> str:
        """What it does, for a person."""

    @property
    def undo_text(self) -> str:
        """What its undoing does."""

    @property
    def final(self) -> bool:
        """Whether nothing can be undone once it is done."""

    async def do(self, site: Site, report: Report) -> None:
        """Do it; what is so already is left."""

    async def verify(self, site: Site) -> None:
        """Look whether it is so.

        Raises:
            StepError: it is not.
        """

    async def undo(self, site: Site) -> None:
        """Undo it, wholly done or partly or not at all."""
