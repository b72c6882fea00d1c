"""The failover load as Markdown: pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tapbond.bench.figures import quantile
from tapbond.bench.grid import NONE, grid
from tapbond.bench.subjects import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapbond.bench.plan import Settings
    from tapbond.bench.result import Trial
    from tapbond.lab.demo.outcome import Direction

    Key = tuple[str, str, str]

OUTAGE_HEAD = [
    "",
    "switched",
    "outage → ms p50/p99/max",
    "outage ← ms p50/p99/max",
    "lost → p50/max",
    "lost ← p50/max",
    "unsent → ←",
    "twice → ←",
    "late → ←",
    "re-sent",
]
DETECTOR_HEAD = ["", "seen by", "times", "detected p50/p99/max", "outage → p50/p99/max", "outage ← p50/p99/max"]
LEGEND = (
    "→ to the far host, ← from it. An outage is the longest silence. Lost: frames a repetition, and in how many"
    " repetitions any was; unsent (the socket refused them), twice, late (overtaken) and re-sent (by tapbond, over"
    " the other slave) are sums over all repetitions. “undisturbed” and “no event”: the machine itself."
    " “Alone”: of all detectors only this one was at work; but for “pump alone” the host sends nothing then."
)


def blocks(trials: Sequence[Trial], settings: Settings) -> list[str]:
    """Return the tables of all trials, with their headings."""
    groups: dict[Key, list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.subject, trial.alone, trial.event), []).append(trial)
    found = [
        f"## Failover, {settings.rate} frames/s each way, each event {settings.repetitions} times\n\n"
        f"{LEGEND}\n\n" + grid([OUTAGE_HEAD, *(_outage_row(group) for group in groups.values())])
    ]
    if any(trial.detector for trial in trials):
        rows = (row for group in groups.values() for row in _detector_rows(group))
        found.append("By who saw it first, ms from the event:\n\n" + grid([DETECTOR_HEAD, *rows]))
    return found


def _label(trial: Trial) -> str:
    alone = f" ({trial.alone} alone)" if trial.alone else ""
    return f"{SUBJECTS[trial.subject].label}: {trial.label}{alone}"


def _outage_row(group: Sequence[Trial]) -> list[str]:
    to_far, from_far = [trial.to_far for trial in group], [trial.from_far for trial in group]
    return [
        _label(group[0]),
        f"{sum(trial.switched for trial in group)}/{len(group)}",
        _outages(to_far),
        _outages(from_far),
        _lost(to_far),
        _lost(from_far),
        f"{sum(path.unsent for path in to_far)} {sum(path.unsent for path in from_far)}",
        f"{sum(path.duplicated for path in to_far)} {sum(path.duplicated for path in from_far)}",
        f"{sum(path.reordered for path in to_far)} {sum(path.reordered for path in from_far)}",
        str(sum(trial.resent for trial in group)),
    ]


def _detector_rows(group: Sequence[Trial]) -> Iterable[list[str]]:
    for detector, _ in Counter(trial.detector for trial in group if trial.detector).most_common():
        own = [trial for trial in group if trial.detector == detector]
        yield [
            _label(group[0]),
            detector,
            str(len(own)),
            _quantiles([trial.detection_ms for trial in own if trial.detection_ms is not None]),
            _outages([trial.to_far for trial in own]),
            _outages([trial.from_far for trial in own]),
        ]


def _outages(paths: Sequence[Direction]) -> str:
    return _quantiles([path.outage_ms for path in paths if path.sent])


def _quantiles(values: Sequence[float]) -> str:
    if not values:
        return NONE
    ordered = sorted(values)
    return " / ".join(f"{quantile(ordered, share):.2f}" for share in (0.5, 0.99, 1.0))


def _lost(paths: Sequence[Direction]) -> str:
    ordered = sorted(path.lost for path in paths if path.sent)
    if not ordered:
        return NONE
    if not any(ordered):
        return "0"
    return f"{quantile(ordered, 0.5)} / {ordered[-1]}, in {sum(map(bool, ordered))}"
