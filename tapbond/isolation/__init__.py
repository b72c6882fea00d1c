"""Keep a slave's own IP stack out: a packet socket only copies, so every ping would be answered twice.

Each kind is one file and one small object behind the same interface, picked by name from KINDS.
"""

from collections.abc import Callable
from typing import Protocol

import structlog

from tapbond.errors import IsolationError
from tapbond.isolation.bridge import BridgeIsolation
from tapbond.isolation.nft import NftIsolation
from tapbond.isolation.none import NoIsolation
from tapbond.model import Link
from tapbond.rtnetlink import Rtnetlink
from tapbond.settings import AUTO

log = structlog.get_logger()


class Isolation(Protocol):
    """Keeps the IP stack out of the links that were added, until they are removed."""

    kind: str

    async def open(self) -> None:
        """Prepare; raises IsolationError where this kind does not work."""

    async def add(self, link: Link) -> None:
        """Isolate a link; raises TapbondError and leaves it alone when that fails."""

    async def remove(self, link: Link) -> None:
        """Undo add(); a link that has gone meanwhile is fine."""

    async def close(self) -> None:
        """Undo open(); again is harmless."""


Factory = Callable[[str, Rtnetlink], Isolation]

KINDS: dict[str, Factory] = {"bridge": BridgeIsolation, "nft": NftIsolation, "none": NoIsolation}
"""In the order in which ``auto`` tries them; it never ends at ``none``."""


async def open_isolation(kind: str, failover: str, rtnetlink: Rtnetlink) -> Isolation:
    """Return an open isolation of the wanted kind.

    Args:
        kind: ``auto`` or one of KINDS.
        failover: its name; what is made is named after it.
        rtnetlink: an open one.

    Raises:
        IsolationError: the kind, or with ``auto`` every kind, fails here; or there is no such kind.
    """
    if kind != AUTO:
        if kind not in KINDS:
            raise IsolationError(f"{kind}: no such isolation (choose {AUTO}, {', '.join(KINDS)})")
        isolation = KINDS[kind](failover, rtnetlink)
        await isolation.open()
        return isolation
    failures = []
    for name, factory in KINDS.items():
        if name == "none":
            continue
        isolation = factory(failover, rtnetlink)
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
