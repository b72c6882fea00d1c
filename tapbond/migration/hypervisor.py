"""What a migration asks of a hypervisor. QMP and libvirt are behind it, and the tests' fake."""

from collections.abc import Callable
from typing import Protocol

from tapbond.migration.facts import Guest, Place, Progress

Report = Callable[[Progress], None]


class Hypervisor(Protocol):
    """One guest of one hypervisor. Every method may raise HypervisorError.

    What is so already is no error: a step may be done again after a crash.
    """

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect; again is harmless."""

    async def inspect(self) -> Guest:
        """Return what the guest and its pair are now.

        Raises:
            PreconditionError: there is no such guest, or no such pair.
        """

    async def set_link(self, standby: str, up: bool) -> None:
        """Set the link state that the guest sees on its standby."""

    async def link_is(self, standby: str) -> bool | None:
        """Return the link state that the guest sees, None: it cannot be told."""

    async def is_plugged(self, primary: str) -> bool:
        """Return whether the primary is in the guest."""

    async def plug(self, primary: str, device: str) -> None:
        """Plug the primary in."""

    async def unplug(self, primary: str, device: str, timeout_s: float) -> None:
        """Ask the guest to let go of the primary, and wait until it has.

        Raises:
            GuestRefusedError: it says no.
            AnswerTimeoutError: it says nothing.
        """

    async def settle(self, primary: str) -> None:
        """Wait until no unplug is under way any more that was asked for and not answered, for a moment."""

    async def check_destination(self, to: str) -> list[str]:
        """Return what keeps the destination from taking the guest."""

    async def migrate(self, to: str, timeout_s: float, report: Report) -> None:
        """Move the guest and wait for the end; one that is on its way already is waited for.

        Raises:
            AnswerTimeoutError: it takes too long; it goes on.
        """

    async def place(self, to: str) -> Place:
        """Return where the guest is."""

    async def stay(self, to: str) -> None:
        """End a move that is under way, so that the guest runs here.

        Raises:
            NoWayBackError: it runs there.
            UnclearError: nobody can tell.
        """
