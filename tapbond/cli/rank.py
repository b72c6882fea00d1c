"""``tapbond rank``."""

from pathlib import Path

import click

from tapbond.cli.options import PRIO, connect, run_dir_option


@click.command("rank")
@click.argument("failover", metavar="NAME")
@click.argument("slave")
@click.option("--prio", type=PRIO, help="The highest goes first, after the primary.")
@click.option("--sticky/--no-sticky", default=None, help="Whether it stays active once it is.")
@run_dir_option
def command(failover: str, slave: str, prio: int | None, sticky: bool | None, run_dir: Path | None) -> None:
    """Give SLAVE of the failover NAME another place among the slaves."""
    if prio is None and sticky is None:
        raise click.UsageError("give --prio, --sticky or --no-sticky")
    with connect(failover, run_dir) as client:
        client.call("Rank", slave=slave, prio=prio, sticky=sticky)
