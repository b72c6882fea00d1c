"""``tapbond status``."""

from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from tapbond.cli.options import colours, run_dir_option, wanted
from tapbond.formats.brief import brief
from tapbond.formats.procfs import procfs
from tapbond.formats.table import describe, plain
from tapbond.formats.teamd import teamd
from tapbond.state import Status

FORMATS: dict[str, Callable[[Status], str]] = {
    "table": lambda status: "\n".join(describe(status, click.style if colours() else plain)) + "\n",
    "brief": lambda status: brief(status) + "\n",
    "json": lambda status: msgspec.json.encode(status).decode() + "\n",
    "procfs": procfs,
    "teamd": lambda status: teamd(status) + "\n",
}
BETWEEN = {"table": "\n", "procfs": "\n"}
"""What stands between two failovers; the others are a line or a document each."""


@click.command("status")
@click.argument("failover", metavar="[NAME]", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    default="table",
    show_default=True,
    help="procfs: as /proc/net/bonding/NAME; teamd: as teamdctl NAME state dump.",
)
@click.option("--json", "form", flag_value="json", help="Print everything as one JSON object a failover and line.")
@click.option("--brief", "form", flag_value="brief", help="Print one line a failover.")
@run_dir_option
def command(failover: str | None, form: str, run_dir: Path | None) -> None:
    """Show the failover NAME, or all that run in this network namespace."""
    for number, client in enumerate(wanted(failover, run_dir)):
        text = FORMATS[form](client.status())
        click.echo((BETWEEN.get(form, "") if number else "") + text, nl=False)
