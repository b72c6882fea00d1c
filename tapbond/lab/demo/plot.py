"""``--plot``: received frames over time, with the events marked. Matplotlib is an extra (tapbond[plot])."""

from __future__ import annotations

from bisect import bisect_left
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tapbond.errors import TapbondError
from tapbond.lab.report import FlowRecord, series

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tapbond.lab.demo.outcome import Evidence, Outcome, Row

    Flow = tuple[FlowRecord, str, str]

SUFFIXES = (".png", ".svg")
BUCKET_NS = 20_000_000
ZOOM_NS = (-10_000_000, 30_000_000)
NS_PER_S = 1e9
NS_PER_MS = 1e6
TO_FAR, TO_HOST, EVENT = "#0b6e99", "#c2571a", "#555555"
LOST_HEIGHTS = {TO_FAR: 0.95, TO_HOST: 0.88}
"""Where lost frames are marked, as a share of the height."""
ROOM_FOR_LOST = 1.2
STYLE: Any = {"font.size": 9, "svg.hashsalt": "tapbond", "axes.spines.top": False, "axes.spines.right": False}
DASHES = (0, (4, 3))


def check(path: Path) -> None:
    """Find out beforehand whether a plot can be written there.

    Raises:
        TapbondError: no matplotlib, no such folder, or a suffix that is not in SUFFIXES.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TapbondError(f"{path}: a plot is a {' or '.join(SUFFIXES)} file")
    if find_spec("matplotlib") is None:
        raise TapbondError("--plot needs matplotlib (pip install 'tapbond[plot]')")


def write(path: Path, outcome: Outcome, evidence: Evidence) -> None:
    """Draw it."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    flows = ((evidence.to_far, "host → far", TO_FAR), (evidence.to_host, "far → host", TO_HOST))
    events = [row for row in outcome.rows if row.expected]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 7.2), layout="constrained", dpi=110)
        grid = figure.add_gridspec(3, max(1, len(events)), height_ratios=(1, 1, 1.15))
        above: Any = None
        for place, (flow, name, colour) in enumerate(flows):
            above = figure.add_subplot(grid[place, :], sharex=above)
            _over_time(above, flow, name, colour, outcome)
            _mark(above, events, labelled=place == 0)
        above.set_xlabel("time [s]")
        marks = {step.name: at_ns for step, at_ns in evidence.marks}
        first: Any = None
        highest = 1.0
        for place, row in enumerate(events):
            first = figure.add_subplot(grid[2, place], sharey=first)
            _zoom(first, flows, row, marks[row.event], place)
            highest = max(highest, first.dataLim.ymax)
        if first is not None:
            first.set_ylim(0, highest * ROOM_FOR_LOST)
        figure.suptitle(_title(outcome), fontsize=11)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _title(outcome: Outcome) -> str:
    rate = outcome.settings.rate
    return (
        f"tapbond demo: frames received while the primary fails and returns ({rate} sent a second each way)"
        f" · Linux {outcome.machine.kernel}, {outcome.machine.cpus} CPUs, isolation {outcome.isolation}"
    )


def _over_time(axes: Any, flow: FlowRecord, name: str, colour: str, outcome: Outcome) -> None:
    buckets = series(flow, BUCKET_NS)[:-1]
    origin = buckets[0][0]
    times = [(at - origin) / NS_PER_S for at, _ in buckets]
    rates = [count * NS_PER_S / BUCKET_NS / 1000 for _, count in buckets]
    axes.fill_between(times, rates, step="post", color=colour, alpha=0.25, linewidth=0)
    axes.step(times, rates, where="post", color=colour, linewidth=0.7)
    axes.set_ylabel(f"{name}\n[1000 frames/s]", color=colour)
    axes.set_ylim(0, outcome.settings.rate / 1000 * 1.6)
    axes.set_xlim(0, times[-1])


def _mark(axes: Any, events: list[Row], *, labelled: bool) -> None:
    for number, row in enumerate(events, start=1):
        axes.axvline(row.at_s, color=EVENT, linewidth=0.8, linestyle=DASHES)
        if labelled:
            axes.annotate(
                f"{number} {row.label}",
                (row.at_s, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-3, 3),
                textcoords="offset points",
                fontsize=8,
            )


def _zoom(axes: Any, flows: Sequence[Flow], row: Row, at_ns: int, place: int) -> None:
    """Draw how long each frame sent around one event was under way, and which were lost."""
    begin, end = (at_ns + offset for offset in ZOOM_NS)
    for flow, _, colour in flows:
        arrived = dict(zip(flow.received_seq, flow.received_ns, strict=True))
        near = range(bisect_left(flow.sent_ns, begin), bisect_left(flow.sent_ns, end))
        times = {seq: (flow.sent_ns[seq] - at_ns) / NS_PER_MS for seq in near}
        delays = {seq: (arrived[seq] - flow.sent_ns[seq]) / NS_PER_MS for seq in near if seq in arrived}
        axes.plot([times[seq] for seq in delays], [*delays.values()], ".", color=colour, markersize=2.5)
        lost = [times[seq] for seq in near if seq not in arrived]
        heights, across = [LOST_HEIGHTS[colour]] * len(lost), axes.get_xaxis_transform()
        axes.plot(lost, heights, "x", color=colour, markersize=4, transform=across)
    axes.axvline(0, color=EVENT, linewidth=0.8, linestyle=DASHES)
    axes.set_title(f"{place + 1} {row.label}", fontsize=8)
    axes.set_xlabel("ms", fontsize=8)
    axes.set_xlim(ZOOM_NS[0] / NS_PER_MS, ZOOM_NS[1] / NS_PER_MS)
    if place == 0:
        axes.set_ylabel("under way [ms]\n(x: lost)")
    else:
        axes.tick_params(labelleft=False)
