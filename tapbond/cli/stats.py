"""``tapbond stats``."""

from pathlib import Path

import click
import msgspec

from tapbond.cli.options import run_dir_option, wanted
from tapbond.formats.counters import counters, ethtool


@click.command("stats")
@click.argument("failover", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a failover and line.")
@run_dir_option
def command(failover: str | None, as_json: bool, run_dir: Path | None) -> None:
    """Show the counters of the failover NAME, or of all, as ethtool -S does."""
    for client in wanted(failover, run_dir):
        status = client.status()
        if as_json:
            click.echo(msgspec.json.encode({"name": status.name, **counters(status)}))
        else:
            click.echo(f"{status.name}: {ethtool(status)}" if failover is None else ethtool(status), nl=False)
