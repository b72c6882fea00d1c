"""``tapbond reload``."""

from pathlib import Path

import click

from tapbond.cli.options import connect, run_dir_option


@click.command("reload")
@click.argument("failover", metavar="NAME")
@run_dir_option
def command(failover: str, run_dir: Path | None) -> None:
    """Have the failover NAME read its configuration file again.

    What can be changed while it runs is applied without losing a frame; the
    rest is named, and left as it is until a restart. A file with a mistake
    changes nothing.
    """
    with connect(failover, run_dir) as client:
        answer = client.call("Reload")
    for what, said in (("applied", "applied"), ("restart", "needs a restart")):
        if answer[what]:
            click.echo(f"{failover}: {said}: {', '.join(answer[what])}")
    for reason in answer["refused"]:
        click.echo(f"{failover}: refused: {reason}", err=True)
    if not any(answer.values()):
        click.echo(f"{failover}: nothing has changed")
