"""Keep a slave's own IP stack out: a packet socket only copies, so every ping would be answered twice.

Each kind is one file and one small object behind the same interface, picked by name from KINDS.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from tapbond.errors import IsolationError
from tapbond.isolation.bridge import BridgeIsolation
from tapbond.isolation.netns import NetnsIsolation
from tapbond.isolation.nft import NftIsolation
from tapbond.isolation.none import NoIsolation
from tapbond.model import Link
from tapbond.place import Place
from tapbond.refuge import Refuge
from tapbond.settings import AUTO

log = structlog.get_logger()


class Isolation(Protocol):
    """Keeps the IP stack out of the links that were added, until they are removed."""

    kind: str
    refuge: Refuge | None
    """Where links are brought before anything else is done to them; None: they stay where they are."""

    async def open(self) -> None:
        """Prepare; raises IsolationError where this kind does not work."""

    async def add(self, link: Link) -> None:
        """Isolate a link; raises TapbondError and leaves it alone when that fails."""

    async def remove(self, link: Link) -> None:
        """Undo add(); a link that has gone meanwhile is fine."""

    async def close(self) -> None:
        """Undo open(); again is harmless."""


Factory = Callable[[str, Place, Path], Isolation]

KINDS: dict[str, Factory] = {
    "bridge": lambda failover, place, _: BridgeIsolation(failover, place.rtnetlink),
    "nft": lambda failover, place, _: NftIsolation(failover, place.rtnetlink, place.socket),
    "netns": NetnsIsolation,
    "none": lambda failover, place, _: NoIsolation(failover, place.rtnetlink),
}
AUTOMATIC = ("bridge", "nft")
"""In the order in which ``auto`` tries them. Neither ``none``, nor ``netns``, which costs a link its addresses."""


async def open_isolation(kind: str, failover: str, place: Place, pin: Path) -> Isolation:
    """Return an open isolation of the wanted kind.

    Args:
        kind: ``auto`` or one of KINDS.
        failover: its name; what is made is named after it.
        place: where the links are.
        pin: a file that keeps a private namespace; see Refuge.

    Raises:
        IsolationError: the kind, or with ``auto`` every kind, fails here; or there is no such kind.
    """
    if kind != AUTO:
        if kind not in KINDS:
            raise IsolationError(f"{kind}: no such isolation (choose {AUTO}, {', '.join(KINDS)})")
        isolation = KINDS[kind](failover, place, pin)
        await isolation.open()
        return isolation
    failures = []
    for name in AUTOMATIC:
        isolation = KINDS[name](failover, place, pin)
        try:
            await isolation.open()
        except IsolationError as error:
            failures.append(f"{name}: {error}")
        else:
            log.debug("isolation chosen", isolation=name, failover=failover)
            return isolation
    raise IsolationError(
        f"no isolation works here ({'; '.join(failures)}); --isolation none runs without, and then the slaves"
        " answer every ping and ARP request a second time"
    )
