"""``tapbond migrate``."""

from typing import Any

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
def command(domain: str, to: str, migrate_timeout: float, destination: str, transport: str, **told: Any) -> None:
    """Migrate a guest that has a VF and a virtio NIC as a pair, as one transaction.

    \b
    DOMAIN is a libvirt domain, or the path of a QEMU's QMP socket. On the source:
    the standby's link up, the VF out of the guest and its MAC to zero, the
    forwarding table, the move, the forwarding table again. Whatever fails before
    the guest has moved, or Ctrl-C, undoes all of it; a killed run is taken up with
    --resume or --abort. On the destination: tapbond reattach.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.cli.transaction import course, wished  # noqa: PLC0415
    from tapbond.migration.facts import Kind  # noqa: PLC0415
    from tapbond.migration.survey import Wishes  # noqa: PLC0415

    if told["resume"] + told["abort"] + bool(to) != 1:
        raise click.UsageError("give --to URI, or --resume, or --abort")
    wishes = Wishes(
        kind=Kind.MIGRATE,
        domain=domain_name(domain),
        to=to,
        destination=destination,
        transport=transport,
        migrate_timeout_s=migrate_timeout,
        **wished(told),
    )
    course(wishes, f"runs at {to} (there: tapbond reattach)", told)
