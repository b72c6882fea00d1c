"""Clean up after a process that was killed: its TAP is gone with it, its bridge and its changes are not."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from tapbond.errors import TapbondError
from tapbond.isolation.bridge import bridge_name
from tapbond.journal import Journal, Original
from tapbond.model import Link
from tapbond.netns import Netns, shows_netns, unpin
from tapbond.place import Place
from tapbond.refuge import Refuge

log = structlog.get_logger()


async def clean_up(failover: str, home: Place, journal: Journal, pin: Path, others: Iterable[Place] = ()) -> None:
    """Put back what an earlier run of this failover left, under the failover's lock.

    Deleting the bridge frees its ports; what was changed on the slaves is in the journal. An nftables table
    belongs to a socket and went with it.

    Args:
        failover: its name.
        home: the failover's own place; open.
        journal: of the earlier run.
        pin: where its private namespace is, if it had one.
        others: further places that this run uses; open.
    """
    left = journal.left_behind()
    async with AsyncExitStack() as unwind:
        places = {place.inode: place for place in (home, *others)}
        for original in left:
            if original.netns not in (0, *places) and (place := await _revisit(original)) is not None:
                unwind.push_async_callback(place.close)
                places[place.inode] = place
        for place in places.values():
            await _remove_bridge(failover, place)
        returned = await _bring_home(failover, home, pin)
        for original in left:
            place = places.get(original.netns or home.inode)
            link = _find(original, place, returned) if place is not None else None
            if place is not None and link is not None:
                log.warning("putting back a slave of an earlier run", failover=failover, slave=link.name)
                await original.restore(place.rtnetlink, link.ifindex)
        journal.clear()
        for place in places.values():
            await place.links.refresh()


async def _remove_bridge(failover: str, place: Place) -> None:
    stale = next((link for link in place.links.by_index.values() if link.name == bridge_name(failover)), None)
    if stale is not None and stale.kind == "bridge":
        log.warning("removing the bridge of an earlier run", failover=failover, bridge=stale.name)
        await place.rtnetlink.delete(stale)


async def _bring_home(failover: str, home: Place, pin: Path) -> dict[str, Link]:
    """Bring home what is in the private namespace of an earlier run; return it by the name it had there.

    Raises:
        RightsError, NamespaceError: the namespace cannot be entered, and what is in it would be lost.
    """
    returned: dict[str, Link] = {}
    if not shows_netns(pin):
        unpin(pin)
        return returned
    refuge = Refuge(failover, home, pin)
    await refuge.reopen()
    try:
        for link in refuge.left():
            log.warning("bringing home a slave of an earlier run", failover=failover, slave=link.name)
            try:
                returned[link.name] = await refuge.send_home(link, link.name)
            except TapbondError as error:
                log.warning("slave not brought home", failover=failover, slave=link.name, error=str(error))
    finally:
        await refuge.close()
    return returned


async def _revisit(original: Original) -> Place | None:
    """Open the namespace of a slave of an earlier run, if it is still the same one."""
    try:
        netns = Netns.find(original.netns_name)
        if netns.inode == original.netns:
            place = Place(netns)
            await place.open()
            return place
        netns.close()
    except TapbondError as error:
        log.debug("namespace of an earlier run", slave=original.name, error=str(error))
    log.warning("a slave of an earlier run is not put back: its namespace is gone", slave=original.name)
    return None


def _find(original: Original, place: Place, returned: dict[str, Link]) -> Link | None:
    """Return the slave of an earlier run as it is now; another link may have its ifindex or its name."""
    if original.moved and original.name in returned:
        return returned[original.name]
    link = place.links.by_index.get(original.ifindex)
    return link if link is not None and link.mac == original.mac else None
