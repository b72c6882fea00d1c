"""Isolation by a private network namespace: no DHCP client or network daemon sees a slave while it is one.

In there a slave has no address, and its IP stack nothing to say.
"""

from pathlib import Path

from tapbond.errors import IsolationError, TapbondError
from tapbond.model import Link
from tapbond.place import Place
from tapbond.refuge import Refuge


class NetnsIsolation:
    """Has the slaves brought to a Refuge, which is all that is needed."""

    kind = "netns"

    def __init__(self, failover: str, home: Place, pin: Path) -> None:
        self._refuge = Refuge(failover, home, pin)
        self.refuge: Refuge | None = self._refuge

    async def open(self) -> None:
        """Make the namespace.

        Raises:
            IsolationError: it cannot be made, or cannot be made to outlive a process that is killed.
        """
        try:
            await self._refuge.open()
        except TapbondError as error:
            raise IsolationError(f"isolation netns: {error}; or choose --isolation bridge or nft") from error

    async def add(self, link: Link) -> None:
        """Do nothing: the link is there."""

    async def remove(self, link: Link) -> None:
        """Do nothing: the link is brought home by the refuge."""

    async def close(self) -> None:
        """Give the namespace up, unless links are left in it."""
        await self._refuge.close()
