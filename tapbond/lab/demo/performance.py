"""The run: every event in turn, at its time, with the traffic going on."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import tapbond
from tapbond.lab.demo.outcome import Evidence, Machine, Outcome, rows, totals, verdict
from tapbond.lab.demo.plan import STEPS, Settings, Step
from tapbond.lab.demo.stage import Counts, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapbond.model import Switchover
    from tapbond.state import Status

NS_PER_S = 1_000_000_000
TICK_NS = 125_000_000
QUIET_NS = 300_000_000
"""Around an event nothing is drawn or asked for so long: it would compete with the switchover."""
SPARE_S = 5.0
BYTES_PER_MBIT = 125_000


class Scene(NamedTuple):
    """What a view shows."""

    elapsed_s: float
    counts: Counts
    interval_s: float
    """How long ago the scene before was."""
    status: Status
    marks: Sequence[tuple[Step, int]]
    """Events so far."""
    switchovers: Sequence[Switchover]
    now_ns: int
    rate: int
    """Frames sent a second in each direction."""
    tcp_rate: float
    """Bytes a second."""


class View(Protocol):
    """Shows what happens."""

    def begin(self, text: str) -> None:
        """Say what is being prepared."""

    def show(self, scene: Scene) -> None:
        """Show how things are."""


def perform(settings: Settings, view: View, steps: Sequence[Step] = STEPS) -> tuple[Outcome, Evidence]:
    """Build the stage, go through the steps, and return what came of it.

    Raises:
        TapbondError: tapbond did not start, or ended in the middle.
    """
    seconds = settings.settle + settings.seconds * len(steps)
    view.begin("building the lab: a host with two links, a switch, a far host")
    with Stage(settings, seconds + SPARE_S) as stage:
        run = Performance(settings, stage, view)
        stage.start_traffic()
        run.play(steps)
        stage.stop_traffic()
        status = stage.status()
        evidence = Evidence(
            to_far=stage.to_far.record(),
            to_host=stage.to_host.record(),
            stream=stage.stream.record(),
            marks=run.marks,
            switchovers=stage.switchovers,
            queue_dropped=stage.queue_dropped(),
        )
        stage.stop_tapbond()
    found = rows(evidence)
    sums = totals(evidence, found)
    outcome = Outcome(
        machine=machine(),
        settings=settings,
        isolation=status.isolation,
        rows=tuple(found),
        totals=sums,
        verdict=verdict(found, sums),
    )
    return outcome, evidence


def machine() -> Machine:
    """Describe this machine."""
    return Machine(
        kernel=platform.release(),
        arch=platform.machine(),
        cpus=os.cpu_count() or 0,
        python=platform.python_version(),
        tapbond=tapbond.__version__,
    )


class Performance:
    """Goes through the steps, showing how things are in between."""

    def __init__(self, settings: Settings, stage: Stage, view: View) -> None:
        self.marks: list[tuple[Step, int]] = []
        """Each step and when it was made (CLOCK_MONOTONIC in ns)."""
        self._settings = settings
        self._stage = stage
        self._view = view
        self._started_ns = self._shown_ns = 0

    def play(self, steps: Sequence[Step]) -> None:
        """Make each step in its turn."""
        self._started_ns = self._shown_ns = time.monotonic_ns()
        due = self._started_ns + int(self._settings.settle * NS_PER_S)
        self._pass_time(self._started_ns, due - QUIET_NS, due)
        for step in steps:
            at = step.make(self._stage)
            self.marks.append((step, at))
            due = at + int(self._settings.seconds * NS_PER_S)
            self._pass_time(at + QUIET_NS, due - QUIET_NS, due)

    def _pass_time(self, begin: int, quiet: int, end: int) -> None:
        """Show things from ``begin`` to ``quiet``, then wait until ``end``."""
        tick = begin
        while tick < quiet:
            _sleep_until(tick)
            self._show()
            tick += TICK_NS
        _sleep_until(end)

    def _show(self) -> None:
        status = self._stage.status()
        now = time.monotonic_ns()
        self._view.show(
            Scene(
                elapsed_s=(now - self._started_ns) / NS_PER_S,
                counts=self._stage.counts(),
                interval_s=(now - self._shown_ns) / NS_PER_S,
                status=status,
                marks=self.marks,
                switchovers=self._stage.switchovers,
                now_ns=now,
                rate=self._settings.rate,
                tcp_rate=self._settings.tcp_mbit * BYTES_PER_MBIT,
            )
        )
        self._shown_ns = now


def _sleep_until(when_ns: int) -> None:
    if (left := when_ns - time.monotonic_ns()) > 0:
        time.sleep(left / NS_PER_S)
