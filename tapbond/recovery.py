"""Clean up after a process that was killed: its TAP is gone with it, its bridge and its changes are not."""

from contextlib import AsyncExitStack
from functools import partial

import structlog

from tapbond.adopted import AdoptionFile
from tapbond.adoption import Adoption
from tapbond.isolation.bridge import bridge_name
from tapbond.journal import Journal, undo
from tapbond.links import Links
from tapbond.rtbatch import RtBatch
from tapbond.rtnetlink import Rtnetlink
from tapbond.rundir import RunDir

log = structlog.get_logger()


async def clean_up(
    failover: str, rtnetlink: Rtnetlink, links: Links, journal: Journal, adoption: Adoption
) -> list[str]:
    """Put back what an earlier run of this failover left, under the failover's lock; return it in words.

    Deleting the bridge frees its ports; what was changed on the slaves is in the journal. An nftables table
    belongs to a socket and went with it.
    """
    done = []
    stale = next((link for link in links.by_index.values() if link.name == bridge_name(failover)), None)
    if stale is not None and stale.kind == "bridge":
        log.info("removing the bridge of an earlier run", failover=failover, bridge=stale.name)
        await rtnetlink.delete(stale)
        done.append(f"bridge {stale.name} removed")
    for original in journal.left_behind():
        link = links.by_index.get(original.ifindex)
        if link is None or not original.describes(link):
            done.append(f"slave {original.name} skipped: no such interface with MAC {original.mac}")
            continue
        log.info("putting back a slave of an earlier run", failover=failover, slave=link.name)
        await undo(link.name, (partial(original.restore_mac, rtnetlink), partial(original.restore, rtnetlink)))
        done.append(f"slave {link.name} put back")
    journal.clear()
    await links.refresh()
    if what := await adoption.resume():
        log.info("giving back what an earlier run adopted", failover=failover, what=what)
        done.append(what)
        await links.refresh()
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
        rtnetlink = Rtnetlink()
        unwind.push_async_callback(rtnetlink.close)
        await rtnetlink.open()
        links = Links(rtnetlink)
        unwind.push_async_callback(links.close)
        await links.open()
        adoption = Adoption(RtBatch(rtnetlink), links, AdoptionFile(run_dir.adopted(failover)))
        return await clean_up(failover, rtnetlink, links, Journal(run_dir.journal(failover)), adoption)
