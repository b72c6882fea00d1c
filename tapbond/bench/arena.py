"""Two hosts between which numbered frames go while a failover between them goes through its events."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from tapbond.bench.loads import BOTH
from tapbond.bench.result import Trial
from tapbond.lab.demo.outcome import Direction, Evidence, Row, rows
from tapbond.lab.report import StreamRecord
from tapbond.lab.traffic import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapbond.bench.bed import Bed
    from tapbond.lab.demo.plan import Step
    from tapbond.lab.topology import Lab
    from tapbond.model import Switchover

PORTS = (5421, 5422)
SPACING_S = 0.4
SPACING_NS = 400_000_000
"""From one event to the next: an updelay, a drain, the announcements, and some quiet."""
LOOK_NS = 300_000_000
"""When a failover without records is asked who is active: after the event's outage, before the next event's."""
SPARE_S = 10.0
NS_PER_S = 1_000_000_000
RESTORED = "restored"
"""A step that only makes the next one possible: it is no trial."""
SILENT = Direction(
    sent=0,
    unsent=0,
    lost=0,
    duplicated=0,
    reordered=0,
    outage_ms=0,
    sender_late_ms=0,
    recovered=True,
)
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


class Pilot(Protocol):
    """Steers one kind of failover."""

    @property
    def keeps_records(self) -> bool:
        """Whether it tells of its switchovers afterwards; else it is asked who is active after each event."""

    def switch(self, slave: str | None) -> int:
        """Switch by hand, or let the rules choose again; return the time.monotonic_ns() from right before."""

    def active(self) -> str | None:
        """Return which slave sends."""

    def switchovers(self) -> Sequence[Switchover]:
        """Return the last ones. TapbondError: it has ended."""


class Arena:
    """A failover and its hosts.

    Args:
        name: of the subject.
        bed: the hosts.
        steps: the events, in turn.
        lab: their links, where there is something to fail over.
        pilot: of the failover, likewise.
        alone: the only detector that works; empty: all that it has.
        directions: in which frames go.
    """

    def __init__(
        self,
        name: str,
        bed: Bed,
        steps: Sequence[Step],
        lab: Any = None,
        pilot: Pilot | None = None,
        *,
        alone: str = "",
        directions: Sequence[str] = BOTH,
    ) -> None:
        self.name = name
        self.lab: Lab = lab
        self._bed = bed
        self._steps = steps
        self._pilot = pilot
        self._alone = alone
        self._directions = directions

    def switch(self, slave: str | None) -> int:
        """Switch by hand, as a step."""
        assert self._pilot is not None  # noqa: S101 - only a failover has such steps
        return self._pilot.switch(slave)

    def wait_reachable(self) -> None:
        """Wait until the far host answers; TimeoutError."""
        self._bed.wait_reachable()

    def play(self, repetition: int, rate: int) -> list[Trial]:
        """Let each event happen once; TapbondError: the failover ended."""
        seconds = SPACING_S * (len(self._steps) + 1)
        active: dict[str, str | None] = {}
        with ExitStack() as stack:
            flows = {direction: self._flow(direction, rate, seconds) for direction in self._directions}
            for flow in flows.values():
                stack.enter_context(flow).start()
            _sleep_until(time.monotonic_ns() + SPACING_NS)
            marks = [(step, self._make(step, active)) for step in self._steps]
        switchovers = self._pilot.switchovers() if self._pilot else ()
        since = [record for record in switchovers if record.detected_ns >= marks[0][1]]
        from_far = flows["from far"].record()
        to_far = flows["to far"].record() if "to far" in flows else None
        return [
            trial(self.name, repetition, row, alone=self._alone, active=active.get(row.event), sent=bool(to_far))
            for row in rows(Evidence(to_far or from_far, from_far, NO_STREAM, marks, since))
            if row.event != RESTORED and (row.expected or not self._alone)
        ]

    def _make(self, step: Step, active: dict[str, str | None]) -> int:
        """Make one event happen and wait until the next one's time; return when it happened."""
        at = step.make(self)
        if self._pilot and not self._pilot.keeps_records:
            _sleep_until(at + LOOK_NS)
            active[step.name] = self._pilot.active()
        _sleep_until((time.monotonic_ns() if step.name == RESTORED else at) + SPACING_NS)
        return at

    def _flow(self, direction: str, rate: int, seconds: float) -> UdpFlow:
        source, sink = self._bed.ends(direction)
        port = PORTS[direction == "from far"]
        return UdpFlow(
            source.namespace, sink.namespace, sink.address, port, rate=rate, seconds_max=seconds + SPARE_S
        )


def trial(
    subject: str, repetition: int, row: Row, *, alone: str = "", active: str | None = None, sent: bool = True
) -> Trial:
    """Return what the demo's row says of one event.

    Args:
        subject: whose.
        repetition: which.
        row: what the traffic and the records say.
        alone: the only detector that worked.
        active: who was seen to be active after it, where there are no records.
        sent: whether the host sent anything.
    """
    return Trial(
        subject=subject,
        repetition=repetition,
        event=row.event,
        label=row.label,
        planned=row.planned,
        switched=row.switched or not row.expected or active == row.expected,
        alone=alone,
        detector=row.detector or "",
        detection_ms=row.detection_ms,
        resent=row.resent,
        to_far=row.to_far if sent else SILENT,
        from_far=row.to_host,
    )


def _sleep_until(at_ns: int) -> None:
    if (left := at_ns - time.monotonic_ns()) > 0:
        time.sleep(left / NS_PER_S)
