"""``tapbond monitor``."""

import sys
from pathlib import Path

import click
import msgspec

from tapbond.cli.options import connect, run_dir_option
from tapbond.model import Event


@click.command("monitor")
@click.argument("failover", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@run_dir_option
def command(failover: str, as_json: bool, run_dir: Path | None) -> None:
    """Print what happens to the failover NAME, until it ends or Ctrl-C."""
    with connect(failover, run_dir) as client:
        try:
            for event in client.events():
                click.echo(msgspec.json.encode(event) if as_json else describe(event))
                sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(130)


def describe(event: Event) -> str:
    """Return an event as a line of text."""
    fields = msgspec.to_builtins(event)
    kind = fields.pop("event")
    return f"{kind}: " + " ".join(f"{name}={value}" for name, value in fields.items())
