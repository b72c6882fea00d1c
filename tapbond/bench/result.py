"""What a comparison found, as ``--json`` writes it."""

from __future__ import annotations

import msgspec

from tapbond.bench.machine import Machine  # noqa: TC001 - msgspec reads the annotations
from tapbond.bench.plan import Settings  # noqa: TC001
from tapbond.lab.demo.outcome import Direction  # noqa: TC001


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one subject, a value a round."""

    load: str
    direction: str
    subject: str
    metric: str
    values: tuple[float, ...]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One event that one failover went through, or a time without any."""

    subject: str
    repetition: int
    event: str
    label: str
    planned: bool
    """Both slaves worked: nothing may be lost."""
    switched: bool
    """It came to the switchover that the event asks for; true where none was due."""
    alone: str = ""
    """The only detector at work; empty: all of them were."""
    detector: str
    """Who saw it first; empty: no switchover, or a failover that does not tell."""
    detection_ms: float | None
    resent: int
    to_far: Direction
    from_far: Direction


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    machine: Machine
    settings: Settings
    skipped: tuple[str, ...]
    """What was not measured, and why; a line each."""
    series: tuple[Series, ...]
    trials: tuple[Trial, ...]
    seconds: float
    """How long it took."""
    partial: str = ""
    """Why it ended before its time; empty: it is whole."""
    load_average_end: tuple[float, float, float]

    def values(self, load: str, direction: str, subject: str, metric: str) -> tuple[float, ...]:
        """Return one figure's values, empty if it was not measured."""
        for series in self.series:
            if (series.load, series.direction, series.subject, series.metric) == (
                load,
                direction,
                subject,
                metric,
            ):
                return series.values
        return ()
