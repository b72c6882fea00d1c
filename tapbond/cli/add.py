"""``tapbond add``."""

from pathlib import Path

import click

from tapbond.cli.options import connect, run_dir_option
from tapbond.model import Role


@click.command("add")
@click.argument("failover", metavar="NAME")
@click.argument("link")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.PRIMARY.value,
    show_default=True,
    help="The slot that it takes.",
)
@run_dir_option
def command(failover: str, link: str, role: str, run_dir: Path | None) -> None:
    """Make LINK a slave of the failover NAME."""
    with connect(failover, run_dir) as client:
        client.call("AddSlave", link=link, role=role)
