"""``tapbond demo``."""

import sys
from pathlib import Path

import click

from tapbond.cli import interruption
from tapbond.errors import TapbondError
from tapbond.model import ReceiveMode

OUTPUT = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command("demo")
@click.option("--json", "json_file", type=OUTPUT, metavar="FILE", help="Write everything as data, too.")
@click.option(
    "--plot", "plot_file", type=OUTPUT, metavar="FILE", help="Draw it as .png or .svg; needs tapbond[plot]."
)
@click.option(
    "--rate",
    type=click.IntRange(100, 20_000),
    default=5000,
    show_default=True,
    help="Numbered frames a second in each direction.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1.2, 60),
    default=1.9,
    show_default=True,
    help="From one event to the next.",
)
@click.option(
    "--isolation",
    type=click.Choice(["auto", "bridge", "nft", "none"]),
    default="auto",
    show_default=True,
    help="As for run.",
)
@click.option(
    "--rx",
    type=click.Choice([mode.value for mode in ReceiveMode]),
    default=ReceiveMode.ACTIVE.value,
    show_default=True,
    help="As for run.",
)
def command(
    *, json_file: Path | None, plot_file: Path | None, rate: int, seconds: float, isolation: str, rx: str
) -> None:
    """See a failover at work, in a network of namespaces that is gone afterwards.

    \b
    Carries a TCP stream and numbered UDP through tapbond run while its primary
    is set down, loses its carrier, is unplugged, and comes back each time.
    Nothing of this machine is touched, and root is not needed where user
    namespaces and /dev/net/tun may be used. The exit status is 1 when TCP died,
    a frame arrived twice, or a planned switch lost one.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    interruption.listen()
    try:
        passed = _run(
            json_file=json_file, plot_file=plot_file, rate=rate, seconds=seconds, isolation=isolation, rx=rx
        )
    except interruption.Stopped as stopped:
        click.echo("tapbond: interrupted; everything is taken down", err=True)
        sys.exit(128 + int(stopped.args[0]))
    sys.exit(0 if passed else 1)


def _run(
    *, json_file: Path | None, plot_file: Path | None, rate: int, seconds: float, isolation: str, rx: str
) -> bool:
    from tapbond.lab.demo import rights  # noqa: PLC0415  (the demo's imports take their time: not for --help)

    in_user_namespace = rights.acquire()  # before anything can start a thread

    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from tapbond.lab.demo import plot, table, view  # noqa: PLC0415
    from tapbond.lab.demo.performance import perform  # noqa: PLC0415
    from tapbond.lab.demo.plan import Settings  # noqa: PLC0415

    for path in (json_file, plot_file):
        if path is not None and not path.absolute().parent.is_dir():
            raise TapbondError(f"{path}: no such folder")
    if plot_file is not None:
        plot.check(plot_file)
    console = Console(highlight=False)
    settings = Settings(rate=rate, seconds=seconds, isolation=isolation, rx=rx, user_namespace=in_user_namespace)
    shown = view.choose(console)
    with shown.running():
        outcome, evidence = perform(settings, shown)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    if plot_file is not None:
        plot.write(plot_file, outcome, evidence)
    console.print(table.table(outcome))
    for line in [*table.notes(outcome), *table.conclusion(outcome)]:
        console.print(line, markup=False)
    return outcome.verdict.ok
