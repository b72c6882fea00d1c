"""``tapbond reattach``."""

from pathlib import Path

import click

from tapbond.cli.hostside import domain_name, options


@click.command("reattach")
@options
@click.option("--prepare", metavar="MAC", default="", help="Before the guest comes: lead its MAC to the bridge.")
def command(
    domain: str,
    connect: str,
    device: Path | None,
    standby: str,
    tap: str,
    uplink: str,
    pf: str,
    vf: int | None,
    netns: str,
    link_at_rest: str,
    unplug_timeout: float,
    prepare: str,
    dry_run: bool,
    as_json: bool,
    resume: bool,
    abort: bool,
    state_dir: Path | None,
) -> None:
    """Give a guest that has arrived a VF of this host, as one transaction.

    \b
    On the destination: the forwarding table, the VF's MAC, the VF into the guest,
    the standby's link down. Before the migration, --prepare MAC --uplink LINK adds
    the entry to the forwarding table that lets the network reach the guest over
    the bridge; it is removed when the VF is there.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.cli.screen import Screen  # noqa: PLC0415
    from tapbond.cli.transaction import execute, start, take_up  # noqa: PLC0415
    from tapbond.migration.facts import Kind  # noqa: PLC0415
    from tapbond.migration.survey import Wishes  # noqa: PLC0415

    if resume + abort + bool(prepare) > 1 or (prepare and not uplink):
        raise click.UsageError("give --prepare MAC with --uplink LINK, or --resume, or --abort, or none of them")
    name = domain_name(domain)
    text = device.read_text() if device else ""

    async def work(screen: Screen) -> None:
        if prepare:
            screen.say(await _prepare(prepare.lower(), uplink, netns))
            return
        if resume or abort:
            screen.say(await take_up(screen, name, Kind.REATTACH, abort=abort, state_dir=state_dir))
            return
        wishes = Wishes(
            kind=Kind.REATTACH,
            domain=name,
            connect=connect,
            device=text,
            netns=netns,
            tap=tap,
            uplink=uplink,
            pf=pf,
            vf=vf,
            link_at_rest=link_at_rest,
            unplug_timeout_s=unplug_timeout,
        )
        if await start(screen, wishes, standby, dry_run=dry_run, state_dir=state_dir):
            screen.say(f"{name}: has its VF again")

    execute(work, as_json)


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
