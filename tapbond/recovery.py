"""Clean up after a process that was killed: its TAP is gone with it, its bridge and its changes are not."""

import contextlib
import shutil
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from tapbond.adopted import AdoptionFile
from tapbond.adoption import Adoption
from tapbond.datapath.tc import Tc
from tapbond.datapath.wiring import remove_stale
from tapbond.errors import BusyError, TapbondError
from tapbond.isolation.bridge import bridge_name
from tapbond.journal import Journal, Original, undo
from tapbond.model import Link
from tapbond.netns import Netns, shows_netns, unpin
from tapbond.place import Place
from tapbond.refuge import Refuge
from tapbond.rtbatch import RtBatch
from tapbond.rundir import RunDir

log = structlog.get_logger()


async def clean_up(
    failover: str, home: Place, journal: Journal, pin: Path, adoption: Adoption, others: Iterable[Place] = ()
) -> list[str]:
    """Put back what an earlier run of this failover left, under the failover's lock; return it in words.

    Deleting the bridge frees its ports; what was changed on the slaves is in the journal. An nftables table
    belongs to a socket and went with it.

    Args:
        failover: its name.
        home: the failover's own place; open.
        journal: of the earlier run.
        pin: where its private namespace is, if it had one.
        adoption: of the earlier run.
        others: further places that this run uses; open.
    """
    left, done = journal.left_behind(), list[str]()
    async with AsyncExitStack() as unwind:
        places = {place.inode: place for place in (home, *others)}
        for original in left:
            if original.netns not in (0, *places) and (place := await _revisit(original)) is not None:
                unwind.push_async_callback(place.close)
                places[place.inode] = place
        for place in places.values():
            done += await _remove_bridge(failover, place)
            done += await _remove_filters(failover, place)
        returned = await _bring_home(failover, home, pin)
        kept = list[Original]()
        for original in left:
            place = places.get(original.netns or home.inode)
            words, is_done = await _put_back(failover, original, place, returned, pin)
            done.append(words)
            if not is_done:
                kept.append(original)
        journal.keep(kept)
        for place in places.values():
            await place.links.refresh()
    if what := await adoption.resume():
        log.info("what an earlier run adopted", failover=failover, what=what)
        done.append(what)
        await home.links.refresh()
    return done


async def restore(failover: str, run_dir: RunDir) -> list[str]:
    """Put back what a failover that does not run any more left; return it in words.

    Raises:
        BusyError: it runs.
        TapbondError: the run directory is not usable, or the kernel refused.
    """
    async with AsyncExitStack() as unwind:
        run_dir.make()
        unwind.callback(run_dir.lock_failover(failover).release)
        home = Place()
        unwind.push_async_callback(home.close)
        await home.open()
        adoption = Adoption(RtBatch(home.rtnetlink), home.links, AdoptionFile(run_dir.adopted(failover)))
        shutil.rmtree(run_dir.state(failover), ignore_errors=True)
        return await clean_up(failover, home, Journal(run_dir.journal(failover)), run_dir.pin(failover), adoption)


def forget(failover: str, run_dir: RunDir) -> list[str]:
    """Drop what is written down of a failover that does not run any more; return it in words.

    Raises:
        BusyError: it runs.
    """
    run_dir.make()
    lock = run_dir.lock_failover(failover)
    try:
        journal, file = Journal(run_dir.journal(failover)), AdoptionFile(run_dir.adopted(failover))
        dropped = [f"slave {original.name} forgotten" for original in journal.left_behind()]
        if (adopted := file.read()) is not None:
            dropped.append(f"what was adopted from {adopted.name} forgotten ({adopted.counted()})")
        journal.keep(())
        file.clear()
    finally:
        lock.release()
    return dropped


async def _put_back(
    failover: str, original: Original, place: Place | None, returned: dict[str, Link], pin: Path
) -> tuple[str, bool]:
    """Put one slave back; return in words what became of it, and whether that was all.

    A link that was deleted took what was changed on it along, and one that is plugged in again is another. So what
    is kept is of those that could not be reached, and of those where the kernel refused something.

    Args:
        failover: whose it was.
        original: as it was.
        place: where it was found; None: that namespace cannot be opened.
        returned: links that have just come home.
        pin: where those are that did not.
    """
    if place is None:
        return f"slave {original.name} not put back: its namespace {original.netns_name} cannot be opened", False
    link = _find(original, place, returned)
    if link is None:
        if original.moved and shows_netns(pin):
            return f"slave {original.name} not put back: it is still in its private namespace", False
        return f"slave {original.name} skipped: no such interface with MAC {original.mac}", True
    if busy := _taken(failover, link, RunDir(pin.parent.parent, place.inode)):
        return f"slave {link.name} not put back: {busy}", False
    log.info("putting back a slave of an earlier run", failover=failover, slave=link.name)
    done = await undo(link.name, [partial(original.restore_mac, place.rtnetlink, link.ifindex)])
    done &= await original.restore(place.rtnetlink, link.ifindex)
    return f"slave {link.name} {'' if done else 'not completely '}put back", done


def _taken(failover: str, link: Link, run_dir: RunDir) -> str:
    """Return whose slave a link is by now, empty: nobody's."""
    if not run_dir.path.exists():
        return ""
    try:
        run_dir.lock_link(link.ifindex, link.name, failover).release()
    except BusyError as error:
        return str(error)
    return ""


async def _remove_bridge(failover: str, place: Place) -> list[str]:
    stale = next((link for link in place.links.by_index.values() if link.name == bridge_name(failover)), None)
    if stale is not None and stale.kind == "bridge":
        log.info("removing the bridge of an earlier run", failover=failover, bridge=stale.name)
        await place.rtnetlink.delete(stale)
        return [f"bridge {stale.name} removed"]
    return []


async def _remove_filters(failover: str, place: Place) -> list[str]:
    """Take the tc filters of an earlier run away: they would go on eating what the slaves receive."""
    found: list[int] = []
    try:
        with contextlib.closing(Tc(place.socket)) as tc:
            found = await place.run(lambda: remove_stale(failover, tc))
    except (OSError, TapbondError) as error:  # a kernel without tc has no filters either
        log.debug("cannot look for tc filters", failover=failover, error=str(error))
    if found:
        log.info("removing the tc filters of an earlier run", failover=failover, links=len(found))
    return [f"tc filters removed from {len(found)} links"] if found else []


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
            log.info("bringing home a slave of an earlier run", failover=failover, slave=link.name)
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
    return link if link is not None and original.describes(link) else None
