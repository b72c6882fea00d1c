"""``tapbond migrate``."""

from pathlib import Path

import click

from tapbond.cli.hostside import domain_name, options


@click.command("migrate")
@options
@click.option("--to", metavar="URI", default="", help="libvirt's qemu+ssh://host/system, or QEMU's tcp:HOST:PORT.")
@click.option("--destination", metavar="SOCKET", default="", help="QMP socket of the QEMU that waits, if near.")
@click.option(
    "--transport", metavar="URI", default="", help="Where libvirt sends the memory (--migrateuri of virsh)."
)
@click.option(
    "--migrate-timeout",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    default=3600.0,
    help="How long the move itself may take.  [default: 3600]",
)
def command(
    domain: str,
    to: str,
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
    migrate_timeout: float,
    destination: str,
    transport: str,
    dry_run: bool,
    as_json: bool,
    resume: bool,
    abort: bool,
    state_dir: Path | None,
) -> None:
    """Migrate a guest that has a VF and a virtio NIC as a pair, as one transaction.

    \b
    DOMAIN is a libvirt domain, or the path of a QEMU's QMP socket. On the source:
    the standby's link up, the VF out of the guest and its MAC to zero, the
    forwarding table, the move, the forwarding table again. Whatever fails before
    the guest has moved, or Ctrl-C, undoes all of it; a killed run is taken up with
    --resume or --abort. On the destination: tapbond reattach.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.cli.screen import Screen  # noqa: PLC0415
    from tapbond.cli.transaction import execute, start, take_up  # noqa: PLC0415
    from tapbond.migration.facts import Kind  # noqa: PLC0415
    from tapbond.migration.survey import Wishes  # noqa: PLC0415

    if resume + abort + bool(to) != 1:
        raise click.UsageError("give --to URI, or --resume, or --abort")
    name = domain_name(domain)
    text = device.read_text() if device else ""

    async def work(screen: Screen) -> None:
        if resume or abort:
            screen.say(await take_up(screen, name, Kind.MIGRATE, abort=abort, state_dir=state_dir))
            return
        wishes = Wishes(
            kind=Kind.MIGRATE,
            domain=name,
            connect=connect,
            to=to,
            destination=destination,
            transport=transport,
            device=text,
            netns=netns,
            tap=tap,
            uplink=uplink,
            pf=pf,
            vf=vf,
            link_at_rest=link_at_rest,
            unplug_timeout_s=unplug_timeout,
            migrate_timeout_s=migrate_timeout,
        )
        if await start(screen, wishes, standby, dry_run=dry_run, state_dir=state_dir):
            screen.say(f"{name}: runs at {to} (there: tapbond reattach)")

    execute(work, as_json)
