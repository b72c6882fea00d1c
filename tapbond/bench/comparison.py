"""The comparison: all subjects with each load in turn, round by round, so that a drifting machine favours none."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tapbond.bench import loads, outages
from tapbond.bench.failures import FAILURES, as_ours
from tapbond.bench.loads import FAILOVER, LOADS, Load
from tapbond.bench.machine import machine
from tapbond.bench.result import Result, Series, Trial
from tapbond.bench.subjects import FAILOVERS, OURS, SUBJECTS, Site
from tapbond.errors import TapbondError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tapbond.bench.bed import Bed
    from tapbond.bench.plan import Settings

    Say = Callable[[str], None]
    Key = tuple[str, str, str, str]

NS_PER_S = 1e9


class Comparison:
    """One run, and what it has found so far: whatever ends it, result() has that.

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
        self._begin, self._machine = time.monotonic_ns(), machine()

    def result(self, partial: str = "") -> Result:
        """Return what was found.

        Args:
            partial: why that is not all; empty: it is.
        """
        return Result(
            machine=self._machine,
            settings=self._settings,
            skipped=tuple(self.skipped),
            series=tuple(
                Series(load=load, direction=direction, subject=subject, metric=metric, values=tuple(values))
                for (load, direction, subject, metric), values in self.values.items()
            ),
            trials=tuple(self.trials),
            seconds=round((time.monotonic_ns() - self._begin) / NS_PER_S, 1),
            load_average_end=os.getloadavg(),
            partial=partial,
        )

    @property
    def found_something(self) -> bool:
        """Whether anything was measured."""
        return bool(self.values or self.trials)

    def play(self) -> None:
        """Do all that was asked for; what cannot be had here is skipped with a line.

        Raises:
            TapbondError: nothing of what was asked for can be measured here, or tapbond itself failed.
        """
        self._play()
        if not self.found_something:
            raise TapbondError(f"nothing was measured: {'; '.join(self.skipped) or 'no load fits a subject'}")

    def _play(self) -> None:
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
                if name in OURS:
                    raise as_ours(name, error) from error  # ours has to work, the others may not fit here
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
            if name in OURS:
                raise as_ours(f"{name}, {load.name} {direction}", error) from error
            self._skip(f"{name}, from {load.name} {direction} on: {error}")
            del beds[name]  # rounds would not be the same ones any more
            return
        for metric, value in found.items():
            self.values.setdefault((load.name, direction, name, metric), []).append(value)

    def _failovers(self, names: list[str]) -> None:
        settings = self._settings
        with ExitStack() as stack:
            site = Site(stack, loads.MTU, settings.tapbond_options)
            outages.measure(site, names, settings, take=self.trials.extend, say=self._say, skip=self._skip)
