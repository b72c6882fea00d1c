"""``tapbond remove``."""

from pathlib import Path

import click

from tapbond.cli.options import connect, run_dir_option


@click.command("remove")
@click.argument("failover", metavar="NAME")
@click.argument("slave")
@run_dir_option
def command(failover: str, slave: str, run_dir: Path | None) -> None:
    """Give SLAVE back as it was found; it is not taken again on its own."""
    with connect(failover, run_dir) as client:
        client.call("RemoveSlave", slave=slave)
