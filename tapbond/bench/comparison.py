"""The comparison: all subjects with each load in turn, round by round, so that a drifting machine favours none."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyroute2.netlink.exceptions import NetlinkError

from tapbond.bench import loads, outages
from tapbond.bench.loads import FAILOVER, LOADS, Load
from tapbond.bench.machine import machine
from tapbond.bench.result import Result, Series, Trial
from tapbond.bench.subjects import FAILOVERS, SUBJECTS, Site
from tapbond.errors import TapbondError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tapbond.bench.bed import Bed
    from tapbond.bench.plan import Settings

    Say = Callable[[str], None]
    Key = tuple[str, str, str, str]

FAILURES = (TapbondError, OSError, TimeoutError, subprocess.SubprocessError, NetlinkError)
NS_PER_S = 1e9


def compare(settings: Settings, say: Say) -> Result:
    """Measure.

    Args:
        settings: what, how often, how long.
        say: is told how far it is, a line each.

    Raises:
        TapbondError: nothing of what was asked for can be measured here, or tapbond itself failed.
    """
    begin, where = time.monotonic_ns(), machine()
    run = Comparison(settings, say)
    run.play()
    if not run.values and not run.trials:
        raise TapbondError(f"nothing was measured: {'; '.join(run.skipped) or 'no load fits a subject'}")
    return Result(
        machine=where,
        settings=settings,
        skipped=tuple(run.skipped),
        series=tuple(
            Series(load=load, direction=direction, subject=subject, metric=metric, values=tuple(values))
            for (load, direction, subject, metric), values in run.values.items()
        ),
        trials=tuple(run.trials),
        seconds=round((time.monotonic_ns() - begin) / NS_PER_S, 1),
        load_average_end=os.getloadavg(),
    )


class Comparison:
    """One run, and what it has found so far.

    Args:
        settings: what, how often, how long.
        say: is told how far it is.
    """

    def __init__(self, settings: Settings, say: Say) -> None:
        self.values: dict[Key, list[float]] = {}
        """By load, direction, subject, metric."""
        self.trials: list[Trial] = []
        self.skipped: list[str] = []
        self._settings = settings
        self._say = say

    def play(self) -> None:
        """Do all that was asked for; what cannot be had here is skipped with a line."""
        subjects = self._available((name, SUBJECTS[name].missing) for name in self._settings.subjects)
        wanted = [name for name in self._settings.loads if name != FAILOVER]
        chosen = [LOADS[name] for name in self._available((name, LOADS[name].missing) for name in wanted)]
        for mtu in dict.fromkeys(load.mtu for load in chosen):
            with ExitStack() as stack:
                if beds := self._build(stack, subjects, mtu):
                    self._rounds(beds, [load for load in chosen if load.mtu == mtu])
        failovers = [name for name in subjects if name in FAILOVERS]
        if FAILOVER in self._settings.loads and failovers:
            self._failovers(failovers)

    def _available(self, named: Iterable[tuple[str, Callable[[], str | None]]]) -> list[str]:
        found = []
        for name, missing in named:
            if reason := missing():
                self._skip(f"{name}: {reason}")
            else:
                found.append(name)
        return found

    def _skip(self, line: str) -> None:
        self.skipped.append(line)
        self._say(f"skipped: {line}")

    def _build(self, stack: ExitStack, subjects: list[str], mtu: int) -> dict[str, Bed]:
        beds = {}
        for name in subjects:
            self._say(f"building {SUBJECTS[name].label}, MTU {mtu}")
            try:
                bed = SUBJECTS[name].build(Site(stack, mtu, self._settings.tapbond_options))
                bed.wait_reachable()
            except FAILURES as error:
                if name in FAILOVERS:
                    raise _as_ours(name, error) from error  # ours has to work, the others may not fit here
                self._skip(f"{name}, MTU {mtu}: {error}")
            else:
                beds[name] = bed
        return beds

    def _rounds(self, beds: dict[str, Bed], chosen: list[Load]) -> None:
        for number in range(self._settings.rounds):
            for load in chosen:
                for direction in load.directions:
                    for name in list(beds):
                        self._measure(beds, name, load, direction)
            self._say(f"round {number + 1} of {self._settings.rounds}, MTU {chosen[0].mtu}")

    def _measure(self, beds: dict[str, Bed], name: str, load: Load, direction: str) -> None:
        try:
            found = load.measure(beds[name], direction, self._settings.seconds)
        except FAILURES as error:
            if name in FAILOVERS:
                raise _as_ours(f"{name}, {load.name} {direction}", error) from error
            self._skip(f"{name}, from {load.name} {direction} on: {error}")
            del beds[name]  # rounds would not be the same ones any more
            return
        for metric, value in found.items():
            self.values.setdefault((load.name, direction, name, metric), []).append(value)

    def _failovers(self, names: list[str]) -> None:
        settings = self._settings
        with ExitStack() as stack:
            site = Site(stack, loads.MTU, settings.tapbond_options)
            try:
                self.trials = outages.measure(site, names, settings.repetitions, settings.rate, self._say)
            except FAILURES as error:
                raise _as_ours(FAILOVER, error) from error


def _as_ours(what: str, error: Exception) -> TapbondError:
    return error if isinstance(error, TapbondError) else TapbondError(f"{what}: {error}")
