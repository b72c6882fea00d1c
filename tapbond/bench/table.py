"""A result as Markdown that reads well in a terminal too: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapbond.bench import failover_table, targets
from tapbond.bench.figures import differences, ratios, spread
from tapbond.bench.grid import NONE, extent, grid, number
from tapbond.bench.loads import LOADS, Load
from tapbond.bench.subjects import BASE, SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapbond.bench.machine import Machine
    from tapbond.bench.result import Result

COST = "ns/frame "


def markdown(result: Result) -> str:
    """Return everything that is worth a look."""
    blocks = [_head(result)]
    if aims := targets.rows(result):
        blocks.append(f"## What was to be reached (medians count)\n\n{grid([targets.HEAD, *aims])}")
    for name, load in LOADS.items():
        subjects = [subject for subject in SUBJECTS if _measured(result, load, subject)]
        if name in result.settings.loads and subjects:
            blocks.append(f"## {load.label} [{load.metric}]\n\n{_load_table(result, load, subjects)}")
            if load.columns and load.columns[0].startswith(COST):
                blocks.append(f"{COST_LEGEND}\n\n{_costs(result, load, subjects)}")
    if result.trials:
        blocks += failover_table.blocks(result.trials, result.settings)
    return "\n\n".join(blocks) + "\n"


def _head(result: Result) -> str:
    settings = result.settings
    times = f"{settings.rounds} round{'s' if settings.rounds > 1 else ''} of {settings.seconds:g} s"
    rounds = f"{times}, interleaved; the median (least…most) of the rounds"
    loads = f"{result.machine.load_average[0]:.2f} when it began, {result.load_average_end[0]:.2f} when it ended"
    lines = [
        "# tapbond beside what one would run instead",
        "",
        *_machine(result.machine),
        f"- {rounds}, ratios and differences with “{SUBJECTS[BASE].label}” in the same round",
        f"- load average {loads}, {result.seconds:g} s later",
        *([f"- `tapbond run {' '.join(settings.tapbond_options)}`"] if settings.tapbond_options else []),
        *(f"- skipped: {line}" for line in result.skipped),
        *([f"- **partial: {result.partial}**"] if result.partial else []),
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
                series.metric.removeprefix(COST): spread(series.values).median
                for series in result.series
                if (series.load, series.direction, series.subject) == (load.name, direction, subject)
                and series.metric.startswith(COST)
            }
            whole = found.pop("machine", None)
            process = next((name for name in found if name not in ("sender", "sink")), "")
            costs = [found.get(who) for who in ("sender", process, "sink")]
            rest = None if whole is None else max(0.0, whole - sum(found.values()))
            row += [NONE if cost is None else number(cost) for cost in (*costs, rest, whole)]
        rows.append(row)
    return grid(rows)


COST_COLUMNS = ("sender", "process", "sink", "rest", "all")
COST_LEGEND = (
    "Processor time a frame that arrived [ns]. What the kernel does with a frame (a bridge, tc, the other end's"
    " stack) has no process of its own: it counts for the thread in which it happens to run, mostly the sender's,"
    " or is in the rest (the kernel's own threads, other programs; softirqs too where the kernel accounts for them"
    " apart). So paths are to be compared by “all”, the busy time of all processors."
)
