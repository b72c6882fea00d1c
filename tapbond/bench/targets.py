"""What tapbond wants to reach, beside what was found: ratios and differences of the same rounds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tapbond.bench.figures import differences, quantile, ratios
from tapbond.bench.grid import NONE, extent
from tapbond.bench.loads import BOTH, LOADS
from tapbond.bench.subjects import BASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapbond.bench.result import Result, Trial
    from tapbond.lab.demo.outcome import Direction

HEAD = ["", "to reach", "found → (or the round trip)", "found ←", "reached"]


class Target(NamedTuple):
    """How many times as fast one subject has to be as another."""

    label: str
    load: str
    subject: str
    over: str
    least: tuple[float, float]
    """To the far host, and from it."""


RATIOS = (
    Target("TCP, copy path, over veth + bridge", "tcp", "tapbond", BASE, (0.85, 0.85)),
    Target("TCP, copy path, over OVS userspace with TSO", "tcp", "tapbond", "ovs-tso", (1.05, 1.6)),
    Target("TCP, copy path, over the Python loop by hand", "tcp", "tapbond", "python", (15, 15)),
    Target("TCP, redirect path, over veth + bridge", "tcp", "redirect", BASE, (0.95, 0.95)),
    Target("UDP of 18 bytes, copy path, over OVS userspace with TSO", "udp60", "tapbond", "ovs-tso", (1.6, 1.6)),
    Target("UDP of 18 bytes, copy path, over veth + bridge", "udp60", "tapbond", BASE, (0, 0)),
    Target("UDP of 18 bytes, redirect path, over veth + bridge", "udp60", "redirect", BASE, (0.95, 0.95)),
)
ADDED_US = {"p50 µs": 15.0, "p99 µs": 50.0}
FAULTS = ("primary-down", "unplug")
OUTAGE_MS = {0.5: 2.0, 0.99: 10.0}


def rows(result: Result) -> list[list[str]]:
    """Return the table of those that were measured, without its head."""
    found = [row for target in RATIOS if (row := _ratio(result, target))]
    found += [row for load in ("rr", "rr-busy", "rr-traffic") for row in _added(result, load)]
    copied = [trial for trial in result.trials if trial.subject == "tapbond" and not trial.alone]
    return [*found, *_failover(copied)]


def _ratio(result: Result, target: Target) -> list[str] | None:
    load = LOADS[target.load]
    both = [
        ratios(
            result.values(load.name, direction, target.subject, load.metric),
            result.values(load.name, direction, target.over, load.metric),
        )
        for direction in BOTH
    ]
    if not any(both):
        return None
    wanted = " / ".join(f"≥ {least:g}" for least in target.least) if any(target.least) else NONE
    reached = all(one and one.median >= least for one, least in zip(both, target.least, strict=True))
    return [target.label, wanted, *(extent(one) for one in both), _said(reached) if any(target.least) else NONE]


def _added(result: Result, name: str) -> Iterable[list[str]]:
    load = LOADS[name]
    (direction,) = load.directions
    for metric, most in ADDED_US.items():
        own, base = (result.values(name, direction, subject, metric) for subject in ("tapbond", BASE))
        if found := differences(own, base):
            label = f"{load.label}, copy path: added {metric}"
            yield [label, f"≤ {most:g}", extent(found), "", _said(found.median <= most)]


def _failover(trials: Sequence[Trial]) -> Iterable[list[str]]:
    if faults := [trial for trial in trials if trial.event in FAULTS]:
        lost = sum(trial.to_far.lost for trial in faults)
        yield [f"set down or unplugged, {len(faults)} times: lost", "0 →", str(lost), NONE, _said(lost == 0)]
    if carriers := [trial for trial in trials if trial.event == "carrier-lost"]:
        both = [[trial.to_far for trial in carriers], [trial.from_far for trial in carriers]]
        for share, most in OUTAGE_MS.items():
            found = [_outage(paths, share) for paths in both]
            label = f"carrier lost, {len(carriers)} times: outage p{share * 100:g} ms"
            cells = [f"{one:.2f}" for one in found]
            yield [label, f"≤ {most:g}", *cells, _said(max(found) <= most)]
    if planned := [trial for trial in trials if trial.planned and trial.detector]:
        both = [[trial.to_far for trial in planned], [trial.from_far for trial in planned]]
        counts = [[sum(getattr(path, what) for path in paths) for what in FLAWS] for paths in both]
        label = f"switched by hand or back to the primary, {len(planned)} times: {', '.join(FLAWS)}"
        yield [label, "0, 0, 0", *(", ".join(map(str, one)) for one in counts), _said(not any(map(any, counts)))]


FLAWS = ("lost", "duplicated", "reordered")


def _outage(paths: Sequence[Direction], share: float) -> float:
    return quantile(sorted(path.outage_ms for path in paths), share)


def _said(reached: bool) -> str:
    return "yes" if reached else "no"
