"""``tapbond destroy``."""

from pathlib import Path

import click

from tapbond.cli.options import connect, run_dir_option


@click.command("destroy")
@click.argument("failover", metavar="NAME")
@run_dir_option
def command(failover: str, run_dir: Path | None) -> None:
    """End the failover NAME; its slaves are left as they were found."""
    with connect(failover, run_dir) as client:
        client.call("Destroy")
        client.wait_end()
