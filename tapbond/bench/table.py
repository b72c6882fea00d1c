"""A result as Markdown that reads well in a terminal too: pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tapbond.bench.figures import Spread, differences, quantile, ratios, spread
from tapbond.bench.loads import LOADS, Load
from tapbond.bench.subjects import BASE, SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapbond.bench.machine import Machine
    from tapbond.bench.plan import Settings
    from tapbond.bench.result import Result, Trial
    from tapbond.lab.demo.outcome import Direction

COST = "ns/frame "
NONE = "-"
DIGITS = 3
BIG = 1000


def markdown(result: Result) -> str:
    """Return everything that is worth a look."""
    blocks = [_head(result)]
    for name, load in LOADS.items():
        subjects = [subject for subject in SUBJECTS if _measured(result, load, subject)]
        if name in result.settings.loads and subjects:
            blocks.append(f"## {load.label} [{load.metric}]\n\n{_load_table(result, load, subjects)}")
            if load.columns and load.columns[0].startswith(COST):
                blocks.append(f"Processor time a frame that arrived [ns]:\n\n{_costs(result, load, subjects)}")
    if result.trials:
        blocks += _failover(result.trials, result.settings)
    return "\n\n".join(blocks) + "\n"


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first row its head; the first column to the left, figures to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(cells)} |"

    rule = "|".join(
        (f"{'-' * (width + 1)}:" if place else "-" * (width + 2)) for place, width in enumerate(widths)
    )
    return "\n".join([line(rows[0]), f"|{rule}|", *(line(row) for row in rows[1:])])


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    if abs(value) >= BIG:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{DIGITS}g}"


def extent(found: Spread | None) -> str:
    """Return the median, and in brackets from where to where the values go."""
    if found is None:
        return NONE
    if found.low == found.high:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}…{number(found.high)})"


def _head(result: Result) -> str:
    settings = result.settings
    rounds = (
        f"{settings.rounds} rounds of {settings.seconds:g} s, interleaved; the median (least…most) of the rounds"
    )
    loads = f"{result.machine.load_average[0]:.2f} when it began, {result.load_average_end[0]:.2f} when it ended"
    lines = [
        "# tapbond beside what one would run instead",
        "",
        *_machine(result.machine),
        f"- {rounds}, ratios and differences with “{SUBJECTS[BASE].label}” in the same round",
        f"- load average {loads}, {result.seconds:g} s later",
        *([f"- `tapbond run {' '.join(settings.tapbond_options)}`"] if settings.tapbond_options else []),
        *(f"- skipped: {line}" for line in result.skipped),
    ]
    return "\n".join(lines)


def _machine(machine: Machine) -> list[str]:
    tools = "".join(f", {name} {version}" for name, version in machine.tools.items())
    virtual = ", virtual" if machine.virtual else ""
    kernel = f"Linux {machine.kernel} {machine.arch}"
    congestion = f", TCP by {machine.congestion_control}" if machine.congestion_control else ""
    return [
        f"- {machine.cpu}, {machine.cpus} processors{virtual}, {machine.memory_mib} MiB",
        f"- {kernel}{congestion}, Python {machine.python}, tapbond {machine.tapbond}{tools}",
    ]


def _measured(result: Result, load: Load, subject: str) -> bool:
    return any(result.values(load.name, direction, subject, load.metric) for direction in load.directions)


def _load_table(result: Result, load: Load, subjects: Iterable[str]) -> str:
    further = [column for column in load.columns if not column.startswith(COST)]
    columns = [(direction, metric) for direction in load.directions for metric in (load.metric, *further)]
    against = "ratio" if load.higher else "added"
    head = [""]
    for direction, metric in columns:
        head += [f"{metric}" if len(load.directions) == 1 else direction, against]
    rows = [head]
    for subject in subjects:
        row = [SUBJECTS[subject].label]
        for direction, metric in columns:
            values = result.values(load.name, direction, subject, metric)
            base = result.values(load.name, direction, BASE, metric)
            compare = ratios if load.higher else differences
            row += [extent(spread(values)) if values else NONE, extent(compare(values, base))]
        rows.append(row)
    return grid(rows)


def _costs(result: Result, load: Load, subjects: Iterable[str]) -> str:
    rows = [["", *(f"{direction}: {who}" for direction in load.directions for who in COST_COLUMNS)]]
    for subject in subjects:
        row = [SUBJECTS[subject].label]
        for direction in load.directions:
            found = {
                series.metric.removeprefix(COST): spread(series.values)
                for series in result.series
                if (series.load, series.direction, series.subject) == (load.name, direction, subject)
                and series.metric.startswith(COST)
            }
            process = next((name for name in found if name not in ("sender", "sink", "machine")), "")
            row += [number(found[who].median) if who in found else NONE for who in ("sender", process)]
            row += [number(found[who].median) if who in found else NONE for who in ("sink", "machine")]
        rows.append(row)
    return grid(rows)


COST_COLUMNS = ("sender", "the process", "sink", "all")


def _failover(trials: Sequence[Trial], settings: Settings) -> list[str]:
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.subject, trial.event), []).append(trial)
    blocks = [
        f"## Failover, {settings.rate} frames/s each way, each event {settings.repetitions} times\n\n"
        "→ to the far host, ← from it. An outage is the longest silence; frames are sums over all repetitions;"
        " the rows “undisturbed” and “no event” are the machine itself.\n\n"
        + grid([OUTAGE_HEAD, *(_outage_row(key, group) for key, group in groups.items())]),
        "By who saw it first, ms from the event:\n\n"
        + grid([DETECTOR_HEAD, *(row for key, group in groups.items() for row in _detector_rows(key, group))]),
    ]
    return blocks if any(trial.detector for trial in trials) else blocks[:1]


OUTAGE_HEAD = [
    "",
    "switched",
    "outage → ms p50/p99/max",
    "outage ← ms p50/p99/max",
    "lost →",
    "lost ←",
    "unsent → ←",
    "twice → ←",
    "late → ←",
    "re-sent",
]
DETECTOR_HEAD = ["", "seen by", "times", "detected p50/p99/max", "outage → p50/p99/max", "outage ← p50/p99/max"]


def _outage_row(key: tuple[str, str], group: Sequence[Trial]) -> list[str]:
    to_far, from_far = [trial.to_far for trial in group], [trial.from_far for trial in group]
    return [
        f"{SUBJECTS[key[0]].label}: {group[0].label}",
        f"{sum(trial.switched for trial in group)}/{len(group)}",
        _outages(to_far),
        _outages(from_far),
        _sum_and_most(path.lost for path in to_far),
        _sum_and_most(path.lost for path in from_far),
        f"{sum(path.unsent for path in to_far)} {sum(path.unsent for path in from_far)}",
        f"{sum(path.duplicated for path in to_far)} {sum(path.duplicated for path in from_far)}",
        f"{sum(path.reordered for path in to_far)} {sum(path.reordered for path in from_far)}",
        str(sum(trial.resent for trial in group)),
    ]


def _detector_rows(key: tuple[str, str], group: Sequence[Trial]) -> Iterable[list[str]]:
    for detector, _ in Counter(trial.detector for trial in group if trial.detector).most_common():
        own = [trial for trial in group if trial.detector == detector]
        yield [
            f"{SUBJECTS[key[0]].label}: {group[0].label}",
            detector,
            str(len(own)),
            _quantiles([trial.detection_ms for trial in own if trial.detection_ms is not None]),
            _outages([trial.to_far for trial in own]),
            _outages([trial.from_far for trial in own]),
        ]


def _outages(paths: Sequence[Direction]) -> str:
    return _quantiles([path.outage_ms for path in paths])


def _quantiles(values: Sequence[float]) -> str:
    if not values:
        return NONE
    ordered = sorted(values)
    return " / ".join(f"{quantile(ordered, share):.2f}" for share in (0.5, 0.99, 1.0))


def _sum_and_most(counts: Iterable[int]) -> str:
    found = list(counts)
    return f"{sum(found)}" + (f" (≤ {max(found)})" if any(found) else "")
