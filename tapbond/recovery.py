"""Clean up after a process that was killed: its TAP is gone with it, its bridge and its changes are not."""

from functools import partial

import structlog

from tapbond.isolation.bridge import bridge_name
from tapbond.journal import Journal, undo
from tapbond.links import Links
from tapbond.rtnetlink import Rtnetlink

log = structlog.get_logger()


async def clean_up(failover: str, rtnetlink: Rtnetlink, links: Links, journal: Journal) -> None:
    """Put back what an earlier run of this failover left, under the failover's lock.

    Deleting the bridge frees its ports; what was changed on the slaves is in the journal. An nftables table
    belongs to a socket and went with it.
    """
    stale = next((link for link in links.by_index.values() if link.name == bridge_name(failover)), None)
    if stale is not None and stale.kind == "bridge":
        log.warning("removing the bridge of an earlier run", failover=failover, bridge=stale.name)
        await rtnetlink.delete(stale)
    for original in journal.left_behind():
        link = links.by_index.get(original.ifindex)
        if link is None or not original.describes(link):
            continue
        log.warning("putting back a slave of an earlier run", failover=failover, slave=link.name)
        await undo(link.name, (partial(original.restore_mac, rtnetlink), partial(original.restore, rtnetlink)))
    journal.clear()
    await links.refresh()
