"""``tapbond switch``."""

from pathlib import Path

import click

from tapbond.cli.options import connect, run_dir_option


@click.command("switch")
@click.argument("failover", metavar="NAME")
@click.argument("slave", required=False)
@click.option("--auto", is_flag=True, help="Let the rules choose again.")
@run_dir_option
def command(failover: str, slave: str | None, auto: bool, run_dir: Path | None) -> None:
    """Make SLAVE the active one of the failover NAME, without losing a frame.

    It stays so until it fails, or until --auto.
    """
    if (slave is None) != auto:
        raise click.UsageError("give a SLAVE, or --auto")
    with connect(failover, run_dir) as client:
        client.call("Switch", slave=slave)
