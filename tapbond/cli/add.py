"""``tapbond add``."""

from pathlib import Path

import click

from tapbond.cli.options import PRIO, connect, run_dir_option
from tapbond.model import Role


@click.command("add")
@click.argument("failover", metavar="NAME")
@click.argument("link")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    help="The slot that it takes.  [default: primary, with --prio: backup]",
)
@click.option("--prio", type=PRIO, help="Of two backups the one with the higher goes first.")
@run_dir_option
def command(failover: str, link: str, role: str | None, prio: int | None, run_dir: Path | None) -> None:
    """Make LINK a slave of the failover NAME."""
    default = Role.PRIMARY if prio is None else Role.BACKUP
    with connect(failover, run_dir) as client:
        client.call("AddSlave", link=link, role=role or default.value, prio=prio)
