"""Numbered traffic between the guest and the far host, and what became of it."""

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapbond.lab import wait_until

if TYPE_CHECKING:
    from rig import Rig

RATE = 200
"""Datagrams a second each way."""


@dataclass(frozen=True)
class Figures:
    """What an event cost the numbered traffic: datagrams, and the longest silences in ms."""

    lost_out: int
    lost_in: int
    duplicated: int
    silence_out_ms: float
    silence_in_ms: float
    errors: int


class Traffic:
    """Numbered datagrams both ways, from when they flow until :meth:`stop`."""

    def __init__(self, rig: "Rig", run: int) -> None:
        self._rig, self._run = rig, run
        self._program = rig.guest.start(*rig.numbered(run, 120))
        self._figures: Figures | None = None
        self.came: set[int] = set()
        """Numbers of the far host's datagrams that reached the guest."""
        self.out: list[tuple[int, int]] = []
        """Numbers of the guest's datagrams that reached the far host, and when."""

    def arrived(self) -> int:
        """Return how many of the guest's datagrams have reached the far host."""
        return sum(run == self._run for run, _, _ in self._rig.far.received)

    def go_on(self, count: int = 60) -> None:
        """Wait until the far host has sent so many more."""
        start = len(self._rig.far.sent_ns)
        wait_until(lambda: len(self._rig.far.sent_ns) >= start + count, what="more numbered traffic")

    def mark(self) -> tuple[int, int]:
        """Return how far each direction is: the far host's next number, the guest's that it should have next."""
        out = (number for run, number, _ in self._rig.far.received if run == self._run)
        return len(self._rig.far.sent_ns), max(out, default=-1) + 1

    def stop(self) -> None:
        if self._figures:
            return
        last = len(self._rig.far.sent_ns)
        said = self._program.stop()
        if "{" not in said:
            raise AssertionError(f"the numbered traffic in the guest said: {said}")
        record = json.loads(said[said.index("{") :])
        self.out = out = [(number, at) for run, number, at in self._rig.far.received if run == self._run]
        came = [(number, at) for _, number, at in record["received"]]
        self.came = {number for number, _ in came}
        first = came[0][0] if came else last
        wanted = [entry for entry in came if entry[0] < last]
        self._figures = Figures(
            lost_out=len(record["sent_ns"]) - len({number for number, _ in out}),
            lost_in=last - first - len({number for number, _ in wanted}),
            duplicated=len(out) + len(wanted) - len({n for n, _ in out}) - len({n for n, _ in wanted}),
            silence_out_ms=longest_silence_ms(out),
            silence_in_ms=longest_silence_ms(came),
            errors=sum(record["errors"].values()),
        )

    @property
    def figures(self) -> Figures:
        """What it came to, once stopped."""
        assert self._figures
        return self._figures


def longest_silence_ms(arrivals: list[tuple[int, int]]) -> float:
    """Return the longest time between two arrivals, less the interval at which they are sent."""
    gaps = (after - before for (_, before), (_, after) in itertools.pairwise(arrivals))
    return round(max(0.0, max(gaps, default=0) / 1e6 - 1e3 / RATE), 1)
