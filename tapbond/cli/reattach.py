"""``tapbond reattach``."""

from functools import partial
from typing import Any

import click

from tapbond.cli.hostside import domain_name, options


@click.command("reattach")
@options
@click.option("--prepare", metavar="MAC", default="", help="Before the guest comes: lead its MAC to the bridge.")
def command(domain: str, prepare: str, **told: Any) -> None:
    """Give a guest that has arrived a VF of this host, as one transaction.

    \b
    On the destination: the forwarding table, the VF's MAC, the VF into the guest,
    the standby's link down. Before the migration, --prepare MAC --uplink LINK adds
    the entry to the forwarding table that lets the network reach the guest over
    the bridge; it is removed when the VF is there.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.cli.transaction import course, say, wished  # noqa: PLC0415
    from tapbond.migration.facts import Kind  # noqa: PLC0415
    from tapbond.migration.survey import Wishes  # noqa: PLC0415

    if told["resume"] + told["abort"] + bool(prepare) > 1 or (prepare and not told["uplink"]):
        raise click.UsageError("give --prepare MAC with --uplink LINK, or --resume, or --abort, or none of them")
    if prepare:
        say(partial(_prepare, prepare.lower(), told["uplink"], told["netns"]), told)
        return
    wishes = Wishes(kind=Kind.REATTACH, domain=domain_name(domain), **wished(told))
    course(wishes, "has its VF again", told)


async def _prepare(mac: str, uplink: str, netns: str) -> str:
    """Add the entry that the guest will need, and say so."""
    from tapbond.migration.facts import FdbEntry  # noqa: PLC0415
    from tapbond.migration.kernel import KernelNetwork  # noqa: PLC0415

    entry = FdbEntry(mac=mac, link=uplink, master=False)
    network = KernelNetwork(netns)
    await network.open()
    try:
        await network.add(entry)
    finally:
        await network.close()
    return f"{uplink}: leads {mac} to its bridge (until tapbond reattach, or: {entry.command('del')})"
