"""``tapbond bench``."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tapbond.cli import interruption
from tapbond.errors import TapbondError

if TYPE_CHECKING:
    from tapbond.bench.result import Result

OUTPUT = click.Path(path_type=Path, dir_okay=False, writable=True)
DEFAULT_LOADS = ("tcp", "udp60", "rr-busy", "failover")


def _number(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if math.isnan(value):  # passes every range
        raise click.BadParameter("nan is no number of seconds")
    return value


@click.command("bench")
@click.option("--rounds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Of each load.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    callback=_number,
    default=1.0,
    show_default=True,
    help="Of one measurement; TCP takes whole ones.",
)
@click.option("--subjects", default="", metavar="NAME,...", help="What is compared.  [default: all that is here]")
@click.option(
    "--loads",
    default="",
    metavar="NAME,...",
    help=f"What is put on them, or: all.  [default: {','.join(DEFAULT_LOADS)}]",
)
@click.option(
    "--repetitions",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Of each event in the load failover.",
)
@click.option(
    "--rate",
    type=click.IntRange(100, 50_000),
    default=10_000,
    show_default=True,
    help="Frames a second in each direction in the load failover.",
)
@click.option(
    "--tapbond-options", default="", metavar="OPTIONS", help="Given to tapbond run, in one word: '--poll 0'."
)
@click.option("--json", "json_file", type=OUTPUT, metavar="FILE", help="Write every value there.")
@click.option("--markdown", "markdown_file", type=OUTPUT, metavar="FILE", help="Write the tables there, too.")
@click.option(
    "--plot", "plot_file", type=OUTPUT, metavar="FILE", help="Draw it as .png or .svg; needs tapbond[plot]."
)
@click.option(
    "--summary-plot", type=OUTPUT, metavar="FILE", help="Draw how near each subject comes to veth + kernel bridge."
)
def command(**options: Any) -> None:
    """Measure tapbond on this machine, beside what one would run instead.

    \b
    Subjects: veth, bridge (the one to beat), tapbond, redirect, python (a loop
    written by hand), ovs, ovs-tso. Loads: tcp, tcp4, tcp-9000, tcp4-9000, udp60,
    udp512, udp1514, gso, rr, rr-busy, rr-traffic, failover. Each subject has
    namespaces of its own, which are gone afterwards; nothing of this machine is
    touched. TCP needs iperf3; what is not installed is skipped with a line.
    The default takes some five minutes; a run that is interrupted tells and
    writes what it has. Let nothing else run meanwhile.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    interruption.listen()
    try:
        _run(**options)
    except interruption.Stopped as stopped:
        click.echo("tapbond: interrupted; everything is taken down", err=True)
        sys.exit(128 + int(stopped.args[0]))


class Outputs(NamedTuple):
    """Where a result is written, besides standard output."""

    json_file: Path | None
    markdown_file: Path | None
    plot_file: Path | None
    summary_plot: Path | None

    def check(self) -> None:
        """Find out beforehand whether all of it can be written; TapbondError: no."""
        from tapbond.lab.demo import plot  # noqa: PLC0415

        for path in self:
            if path is not None and not path.absolute().parent.is_dir():
                raise TapbondError(f"{path}: no such folder")
        for picture in (self.plot_file, self.summary_plot):
            if picture is not None:
                plot.check(picture)

    def write(self, result: Result) -> None:
        """Write it everywhere."""
        import msgspec  # noqa: PLC0415

        from tapbond.bench import plot, summary_plot, table  # noqa: PLC0415

        text = table.markdown(result)
        if self.json_file is not None:
            self.json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
        if self.markdown_file is not None:
            self.markdown_file.write_text(text, encoding="utf-8")
        if self.plot_file is not None:
            plot.write(self.plot_file, result)
        if self.summary_plot is not None:
            summary_plot.write(self.summary_plot, result)
        click.echo(text, nl=False)


def _run(
    *,
    json_file: Path | None,
    markdown_file: Path | None,
    plot_file: Path | None,
    summary_plot: Path | None,
    subjects: str,
    loads: str,
    tapbond_options: str,
    **how: Any,
) -> None:
    from tapbond.bench import loads as known  # noqa: PLC0415
    from tapbond.bench.plan import Settings, names  # noqa: PLC0415
    from tapbond.bench.subjects import SUBJECTS  # noqa: PLC0415
    from tapbond.lab.demo import rights  # noqa: PLC0415  (these imports take their time: not for --help)

    settings = Settings(
        subjects=names("subject", subjects, tuple(SUBJECTS), tuple(SUBJECTS)),
        loads=names("load", loads, known.NAMES, DEFAULT_LOADS),
        tapbond_options=_words(tapbond_options),
        **how,
    )
    outputs = Outputs(json_file, markdown_file, plot_file, summary_plot)
    outputs.check()
    rights.acquire()

    from tapbond.bench.comparison import Comparison  # noqa: PLC0415

    comparison = Comparison(settings, lambda line: click.echo(line, err=True))
    try:
        comparison.play()
    except (interruption.Stopped, TapbondError) as error:
        if comparison.found_something:
            interrupted = isinstance(error, interruption.Stopped)
            outputs.write(comparison.result("interrupted" if interrupted else str(error)))
            written = ", ".join(str(path) for path in outputs if path is not None)
            click.echo(f"partial: what was measured until then is in {written or 'the table'}", err=True)
        raise
    outputs.write(comparison.result())


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise TapbondError(f"--tapbond-options {text!r}: {error}") from error
