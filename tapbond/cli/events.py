"""``tapbond events``."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from tapbond.cli.options import connect, run_dir_option
from tapbond.formats.records import line
from tapbond.model import Switchover


@click.command("events")
@click.argument("failover", metavar="NAME")
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come, until the failover ends or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@run_dir_option
def command(failover: str, follow: bool, as_json: bool, run_dir: Path | None) -> None:
    """Print the records of the last 256 switchovers of the failover NAME, oldest first."""
    zone = datetime.now(UTC).astimezone().tzinfo or UTC
    ahead_ns = time.time_ns() - time.monotonic_ns()
    try:
        for record in _records(failover, run_dir, follow=follow):
            text = msgspec.json.encode(record).decode() if as_json else line(record, ahead_ns, zone)
            click.echo(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)


def _records(failover: str, run_dir: Path | None, *, follow: bool) -> Iterator[Switchover]:
    """Yield them, each once: those to come are listened for before those that were are asked for."""
    with connect(failover, run_dir) as listener, connect(failover, run_dir) as asker:
        coming = listener.events() if follow else iter(())
        last = 0
        for record in asker.switchovers():
            last = record.serial
            yield record
        for event in coming:
            if isinstance(event, Switchover) and event.serial > last:
                yield event
