"""``tapbond restore``."""

import sys
from pathlib import Path

import click

from tapbond.cli.options import run_dir_option
from tapbond.errors import TapbondError


@click.command("restore")
@click.argument("failover", metavar="[NAME]", required=False)
@click.option("--forget", "forgetting", is_flag=True, help="Drop what is kept of NAME instead.")
@run_dir_option
def command(failover: str | None, forgetting: bool, run_dir: Path | None) -> None:
    """Put back what a failover that was killed left: slaves, addresses, routes.

    \b
    Without NAME: of all failovers of this network namespace. The next start of
    the same failover does it too. One that runs is refused. What cannot be put
    back now, because its link is not there, is kept for the next time.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.recovery import forget, restore  # noqa: PLC0415  (pyroute2 takes its time: not for --help)
    from tapbond.rundir import RunDir  # noqa: PLC0415
    from tapbond.service.daemon import run  # noqa: PLC0415
    from tapbond.service.logs import configure  # noqa: PLC0415

    if forgetting and failover is None:
        raise click.UsageError("--forget wants a NAME")
    configure(verbose=False, quiet=True)
    place = RunDir(run_dir)
    names = [name for name in place.left_behind() if failover in (None, name)]
    said = failed = False

    async def main() -> None:
        nonlocal said, failed
        for name in names:
            try:
                done = forget(name, place) if forgetting else await restore(name, place)
            except TapbondError as error:
                click.echo(f"tapbond: {error}", err=True)
                failed = True
                continue
            if done:
                click.echo(f"{name}: {'; '.join(done)}")
                said = True

    run(main())
    if not said and not failed:
        nothing = f"nothing to {'forget' if forgetting else 'restore'}"
        click.echo(f"{failover}: {nothing}" if failover else nothing)
    if failed:
        sys.exit(1)
