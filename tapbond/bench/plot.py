"""``--plot``: a panel a load, a bar a subject, and the outages. Matplotlib is an extra (tapbond[plot])."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tapbond.bench.figures import spread
from tapbond.bench.loads import LOADS, Load
from tapbond.bench.subjects import BASE, FAILOVERS, SUBJECTS

if TYPE_CHECKING:
    from pathlib import Path

    from tapbond.bench.result import Result, Trial

COLUMNS = 3
PANEL = (4.6, 3.0)
TO_FAR, FROM_FAR = "#0b6e99", "#c2571a"
STYLE: Any = {"font.size": 8, "svg.hashsalt": "tapbond", "axes.spines.top": False, "axes.spines.right": False}
LEAST_MS = 0.01
"""Where an outage of nothing is drawn on a logarithmic axis."""


def write(path: Path, result: Result) -> None:
    """Draw it."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = [load for load in LOADS.values() if any(series.load == load.name for series in result.series)]
    failovers = [name for name in FAILOVERS if any(trial.subject == name for trial in result.trials)]
    panels = max(1, len(drawn) + len(failovers))
    rows = math.ceil(panels / COLUMNS)
    with mpl.rc_context(STYLE):
        size = (PANEL[0] * min(COLUMNS, panels), PANEL[1] * rows + 0.6)
        figure = Figure(figsize=size, layout="constrained", dpi=110)
        for place, load in enumerate(drawn, start=1):
            _bars(figure.add_subplot(rows, min(COLUMNS, panels), place), result, load)
        for place, name in enumerate(failovers, start=len(drawn) + 1):
            axes = figure.add_subplot(rows, min(COLUMNS, panels), place)
            _outages(axes, [trial for trial in result.trials if trial.subject in (name, BASE)], name)
        machine = result.machine
        figure.suptitle(f"{machine.cpu}, {machine.cpus} processors, Linux {machine.kernel}", fontsize=9)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _bars(axes: Any, result: Result, load: Load) -> None:
    subjects = [
        name
        for name in SUBJECTS
        if any(series.load == load.name and series.subject == name for series in result.series)
    ]
    height = 0.8 / len(load.directions)
    for turn, (direction, colour) in enumerate(zip(load.directions, (TO_FAR, FROM_FAR), strict=False)):
        for place, name in enumerate(subjects):
            values = result.values(load.name, direction, name, load.metric)
            if not values:
                continue
            found = spread(values)
            at = place + turn * height - 0.4 + height / 2
            label = direction if place == 0 else None
            axes.barh(at, found.median, height, color=colour, alpha=0.75, label=label)
            axes.plot([found.low, found.high], [at, at], color="#333333", linewidth=1)
    axes.set_yticks(range(len(subjects)), [SUBJECTS[name].label for name in subjects])
    axes.invert_yaxis()
    axes.set_title(f"{load.label} [{load.metric}]", fontsize=8)
    if len(load.directions) > 1:
        axes.legend(fontsize=7, framealpha=0.6, loc="lower right")


def _outages(axes: Any, trials: list[Trial], name: str) -> None:
    events: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        alone = f" ({trial.alone} alone)" if trial.alone else ""
        label = trial.label if trial.subject == name else f"{BASE} {trial.label}"
        events.setdefault((trial.subject, label + alone), []).append(trial)
    for place, own in enumerate(events.values()):
        for shift, colour, paths in (
            (-0.15, TO_FAR, [trial.to_far for trial in own]),
            (0.15, FROM_FAR, [trial.from_far for trial in own]),
        ):
            outages = [max(LEAST_MS, path.outage_ms) for path in paths if path.sent]
            axes.plot(outages, [place + shift] * len(outages), "|", color=colour, markersize=6, alpha=0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(events)), [label for _, label in events])
    axes.invert_yaxis()
    axes.set_title(f"{SUBJECTS[name].label}: outages [ms]", fontsize=8)
