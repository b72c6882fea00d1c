"""The failover load: each event again and again under numbered frames, beside times without any event."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tapbond.bench.bed import Bed
from tapbond.bench.result import Trial
from tapbond.bench.subjects import BASE, PRIMARY, STANDBY, Site, run_options, start_tapbond
from tapbond.errors import ControlError, TapbondError
from tapbond.lab.demo.outcome import Evidence, Row, rows
from tapbond.lab.demo.plan import STEPS, Step
from tapbond.lab.report import StreamRecord
from tapbond.lab.topology import FAR_V4, Pair
from tapbond.lab.traffic import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapbond.lab.process import FailoverProcess
    from tapbond.lab.topology import Lab
    from tapbond.model import Switchover

PORTS = (5421, 5422)
SPACING_S = 0.5
"""From one event to the next: an updelay, a drain, the announcements, and some quiet."""
SPARE_S = 2.0
NS_PER_S = 1_000_000_000
PROBING = ("--probe", FAR_V4, "--probe-interval", "20", "--probe-missed", "2", "--probe-grace", "200")
SILENT_STEPS = (
    Step(
        name="silent",
        label="path silent, probed every 20 ms",
        to=STANDBY,
        planned=False,
        make=lambda stage: stage.lab.silence(PRIMARY),
    ),
    Step(
        name="heard-again",
        label="path heard again",
        to=PRIMARY,
        planned=True,
        make=lambda stage: stage.lab.heal(PRIMARY),
    ),
)
QUIET_STEPS = (Step(name="quiet", label="(no event)", to="", planned=True, make=lambda _: time.monotonic_ns()),)
NO_STREAM = StreamRecord(
    started_ns=0,
    ended_ns=0,
    first_ns=(),
    last_ns=(),
    bytes_total=(),
    sent=0,
    received=0,
    send_error=0,
    receive_error=0,
)


class Arena:
    """Two hosts between which frames go while events happen, and what it knows of switchovers.

    Args:
        name: of the subject.
        bed: the hosts.
        steps: the events, in turn.
        lab: their links, where there is something to fail over.
        running: the failover.
    """

    def __init__(
        self, name: str, bed: Bed, steps: Sequence[Step], lab: Any = None, running: FailoverProcess | None = None
    ) -> None:
        self.name = name
        self.lab: Lab = lab
        self._bed = bed
        self._steps = steps
        self._running = running

    def switch(self, slave: str | None) -> int:
        """Switch by hand, or let the rules choose again; return the time.monotonic_ns() from right before."""
        assert self._running is not None  # noqa: S101 - only a failover has such steps
        with self._running.client() as client:
            at = time.monotonic_ns()
            client.call("Switch", slave=slave)
        return at

    def wait_reachable(self) -> None:
        """Wait until the far host answers; TimeoutError."""
        self._bed.wait_reachable()

    def play(self, repetition: int, rate: int) -> list[Trial]:
        """Let each event happen once; TapbondError: the failover ended."""
        seconds = SPACING_S * (len(self._steps) + 1)
        with ExitStack() as stack:
            flows = [self._flow(direction, rate, seconds) for direction in ("to far", "from far")]
            for flow in flows:
                stack.enter_context(flow).start()
            _sleep_until(time.monotonic_ns() + int(SPACING_S * NS_PER_S))
            marks: list[tuple[Step, int]] = []
            for step in self._steps:
                at = step.make(self)
                marks.append((step, at))
                _sleep_until(at + int(SPACING_S * NS_PER_S))
        to_far, from_far = (flow.record() for flow in flows)
        evidence = Evidence(to_far, from_far, NO_STREAM, marks, self._switchovers(marks[0][1]))
        return [trial(self.name, repetition, row) for row in rows(evidence)]

    def _flow(self, direction: str, rate: int, seconds: float) -> UdpFlow:
        source, sink = self._bed.ends(direction)
        port = PORTS[direction == "from far"]
        return UdpFlow(
            source.namespace, sink.namespace, sink.address, port, rate=rate, seconds_max=seconds + SPARE_S
        )

    def _switchovers(self, since_ns: int) -> list[Switchover]:
        if self._running is None:
            return []
        try:
            records = self._running.status().last_switchovers
        except ControlError as error:
            raise TapbondError(f"{self.name}: tapbond run has ended{self._running.last_words()}") from error
        return [record for record in records if record.detected_ns >= since_ns]


def trial(subject: str, repetition: int, row: Row) -> Trial:
    """Return what the demo's row says of one event."""
    return Trial(
        subject=subject,
        repetition=repetition,
        event=row.event,
        label=row.label,
        planned=row.planned,
        switched=row.switched or not row.expected,
        detector=row.detector or "",
        detection_ms=row.detection_ms,
        resent=row.resent,
        to_far=row.to_far,
        from_far=row.to_host,
    )


def build_base(site: Site) -> Arena:
    """Build the two hosts with nothing but a bridge: what the machine itself does."""
    pair = site.stack.enter_context(Pair(mtu=site.mtu, bridge=True))
    return Arena(BASE, Bed(pair.host, pair.far, {}), QUIET_STEPS)


def build(site: Site, name: str, steps: Sequence[Step], *options: str) -> Arena:
    """Build a failover."""
    path = "redirect" if name == "redirect" else "copy"
    data_path = ("--datapath", path) if "--datapath" in run_options() else ()
    lab, running = start_tapbond(site, *data_path, *options)
    return Arena(name, Bed(lab.host, lab.far, {}), steps, lab, running)


def measure(
    site: Site, names: Sequence[str], repetitions: int, rate: int, say: Callable[[str], None]
) -> list[Trial]:
    """Let each event happen to each failover, in turn; TapbondError: one ended.

    Args:
        site: where; its stack takes it down.
        names: of the failovers, of tapbond.bench.subjects.
        repetitions: how often.
        rate: frames a second each way.
        say: is told how far it is.
    """
    arenas = [build_base(site)]
    for name in names:
        arenas += [build(site, name, STEPS), build(site, name, SILENT_STEPS, *PROBING)]
    for arena in arenas:
        arena.wait_reachable()
    trials: list[Trial] = []
    for repetition in range(repetitions):
        for arena in arenas:
            trials += arena.play(repetition, rate)
        say(f"failover: repetition {repetition + 1} of {repetitions}")
    return trials


def _sleep_until(at_ns: int) -> None:
    if (left := at_ns - time.monotonic_ns()) > 0:
        time.sleep(left / NS_PER_S)
