"""What the demo found, from the records of the traffic and of tapbond: pure, no clock, no I/O."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tapbond.lab.demo.plan import Settings, Step
from tapbond.lab.report import FlowRecord, StreamRecord, stream_alive, stream_outage_ns, windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapbond.model import Switchover

UNDER_WAY_MAX_NS = 50_000_000
"""No frame is under way for longer: a lost one belongs to no event later than that."""
AFTERMATH_NS = 250_000_000
"""A silence that begins later than this after the switchover has another cause."""
TAIL_NS = 150_000_000
"""What is received of the last so many ns before the next event tells whether a direction recovered."""
UNDISTURBED = Step(name="undisturbed", label="(undisturbed)", to="", planned=True, make=lambda _stage: 0)
NS_PER_MS = 1e6
NS_PER_S = 1e9


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of the numbered traffic, during one event."""

    sent: int
    unsent: int
    """Refused by the sending socket: they never left."""
    lost: int
    duplicated: int
    reordered: int
    outage_ms: float
    """The longest time without a frame around the switchover, less the interval between two."""
    sender_late_ms: float
    """The longest delay of the sender itself in the same time: the machine's fault, not the path's."""
    recovered: bool
    """Frames arrived again before the next event."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    event: str
    label: str
    planned: bool
    at_s: float
    """Since the first frame."""
    expected: str
    """Who had to be active after it."""
    switched: bool
    """Whether that happened."""
    cause: str | None
    detector: str | None
    detection_ms: float | None
    """From the event to its detection; None: there was no switchover."""
    resent: int
    """Frames of the host whose send failed on one slave and that another one sent."""
    copies_dropped: int
    """Second copies of frames to the host that tapbond held back."""
    to_far: Direction
    to_host: Direction
    tcp_alive: bool
    tcp_stall_ms: float


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Over the whole run."""

    to_far_sent: int
    to_far_lost: int
    to_far_duplicated: int
    to_host_sent: int
    to_host_lost: int
    to_host_duplicated: int
    resent: int
    tcp_bytes: int
    tcp_alive: bool
    queue_dropped: int
    """Frames that the kernel dropped as tapbond did not get to take them off the failover's queue."""
    instrument_lost: int
    """Frames that the measuring sockets themselves lost."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether tapbond kept its word."""

    ok: bool
    faults: tuple[str, ...]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran."""

    kernel: str
    arch: str
    cpus: int
    python: str
    tapbond: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as ``--json`` writes it."""

    machine: Machine
    settings: Settings
    isolation: str
    """The kind that was in use."""
    rows: tuple[Row, ...]
    totals: Totals
    verdict: Verdict


class Evidence(NamedTuple):
    """All that was recorded."""

    to_far: FlowRecord
    to_host: FlowRecord
    stream: StreamRecord
    marks: Sequence[tuple[Step, int]]
    """Each event and when it was made."""
    switchovers: Sequence[Switchover]
    queue_dropped: int = 0
    """See Totals."""


class _Span(NamedTuple):
    """The time from one event to the next."""

    step: Step
    at_ns: int
    settled_ns: int
    """Until when a silence counts as this event's."""
    tail_ns: int
    end_ns: int
    records: list[Switchover]


def rows(evidence: Evidence) -> list[Row]:
    """Return a row an event, the first for the time before all events."""
    spans = _spans(evidence)
    origin = spans[0].at_ns
    to_far = _directions(evidence.to_far, spans)
    to_host = _directions(evidence.to_host, spans)
    return [
        _row(span, (span.at_ns - origin) / NS_PER_S, paths, evidence.stream)
        for span, paths in zip(spans, zip(to_far, to_host, strict=True), strict=True)
    ]


def _spans(evidence: Evidence) -> list[_Span]:
    flows = (evidence.to_far, evidence.to_host)
    begin = min(flow.sent_ns[0] for flow in flows)
    end = min(flow.sent_ns[-1] for flow in flows) + 1  # one may go on for longer than the other
    marks = [(UNDISTURBED, begin), *sorted(evidence.marks, key=lambda mark: mark[1])]
    times = [at for _, at in marks]
    records: list[list[Switchover]] = [[] for _ in range(len(marks) + 1)]
    for record in sorted(evidence.switchovers, key=lambda record: record.serial):
        records[bisect_right(times, record.detected_ns)].append(record)
    ends = [*times[1:], end]
    spans = []
    for (step, at), own, span_end in zip(marks, records[1:], ends, strict=True):
        tail = max(at, span_end - TAIL_NS)
        settled = max((record.decided_ns for record in own), default=span_end) + AFTERMATH_NS
        spans.append(_Span(step, at, min(settled, tail), tail, span_end, own))
    return spans


def _directions(flow: FlowRecord, spans: Sequence[_Span]) -> list[Direction]:
    boundaries = [
        (part, at)
        for span in spans
        for part, at in (("around", span.at_ns), ("later", span.settled_ns), ("tail", span.tail_ns))
    ]
    silences = windows(flow, boundaries)
    counts = windows(replace(flow, sent_ns=passed_ns(flow)), boundaries)
    found = []
    for place in range(0, len(counts), 3):
        three = counts[place : place + 3]
        around, tail = silences[place], three[2]
        found.append(
            Direction(
                sent=sum(part.sent for part in three),
                unsent=sum(part.unsent for part in three),
                lost=sum(part.lost for part in three),
                duplicated=sum(part.duplicated for part in three),
                reordered=sum(part.reordered for part in three),
                outage_ms=_ms(around.outage_ns),
                sender_late_ms=_ms(around.sender_outage_ns),
                recovered=tail.lost < tail.sent,
            )
        )
    return found


def passed_ns(flow: FlowRecord) -> list[int]:
    """Return when each frame was last heard of: when its last copy arrived.

    A queue may hold a frame for ms before an event takes it, so what counts for a lost one is not when it was
    sent but when the next one behind it arrived; UNDER_WAY_MAX_NS limits that.
    """
    passed = list(flow.sent_ns)
    arrived: dict[int, int] = {}
    for seq, at in zip(flow.received_seq, flow.received_ns, strict=True):
        if seq < len(passed):
            passed[seq] = max(passed[seq], at)
            arrived.setdefault(seq, at)
    behind: int | None = None
    for seq in range(len(passed) - 1, -1, -1):
        behind = arrived.get(seq, behind)
        if behind is not None and seq not in arrived and not flow.error[seq]:
            passed[seq] = min(max(passed[seq], behind), passed[seq] + UNDER_WAY_MAX_NS)
    return passed


def _row(span: _Span, at_s: float, paths: tuple[Direction, Direction], stream: StreamRecord) -> Row:
    step = span.step
    switchover = next((record for record in span.records if record.to_slave == step.to), None)
    middle = (span.at_ns + span.end_ns) // 2
    return Row(
        event=step.name,
        label=step.label,
        planned=step.planned,
        at_s=round(at_s, 3),
        expected=step.to,
        switched=switchover is not None and span.records[-1].to_slave == step.to,
        cause=switchover.cause if switchover else None,
        detector=str(switchover.detector) if switchover else None,
        detection_ms=_ms(switchover.detected_ns - span.at_ns) if switchover else None,
        resent=sum(record.resent for record in span.records),
        copies_dropped=sum(record.duplicates for record in span.records),
        to_far=paths[0],
        to_host=paths[1],
        tcp_alive=any(middle <= at < span.end_ns for at in stream.last_ns),
        tcp_stall_ms=_ms(stream_outage_ns(stream, span.at_ns, span.settled_ns)),
    )


def totals(evidence: Evidence, found: Iterable[Row]) -> Totals:
    """Return the sums over all rows."""
    found = list(found)
    last = evidence.marks[-1][1] if evidence.marks else evidence.stream.started_ns
    return Totals(
        to_far_sent=sum(row.to_far.sent for row in found),
        to_far_lost=sum(row.to_far.lost for row in found),
        to_far_duplicated=sum(row.to_far.duplicated for row in found),
        to_host_sent=sum(row.to_host.sent for row in found),
        to_host_lost=sum(row.to_host.lost for row in found),
        to_host_duplicated=sum(row.to_host.duplicated for row in found),
        resent=sum(row.resent for row in found),
        tcp_bytes=evidence.stream.received,
        tcp_alive=stream_alive(evidence.stream, last),
        queue_dropped=evidence.queue_dropped,
        instrument_lost=evidence.to_far.instrument_lost + evidence.to_host.instrument_lost,
    )


def verdict(found: Iterable[Row], sums: Totals) -> Verdict:
    """Return every promise that was broken, in the order of time."""
    faults = [fault for row in found for fault in _faults(row)]
    if not sums.tcp_alive:
        faults.append("the TCP stream did not survive")
    if sums.instrument_lost:
        faults.append(f"the measuring sockets lost {sums.instrument_lost} frames: the figures mean little")
    return Verdict(ok=not faults, faults=tuple(faults))


def _faults(row: Row) -> Iterable[str]:
    if row.expected and not row.switched:
        yield f"{row.label}: tapbond did not switch to {row.expected}"
    for path, name in ((row.to_far, "host to far"), (row.to_host, "far to host")):
        if not path.recovered:
            yield f"{row.label}: {name} did not recover"
        if row.planned and path.lost:
            yield f"{row.label}: {_frames(path.lost)} lost from {name}, though both links worked"
        if row.planned and path.unsent:
            yield f"{row.label}: {_frames(path.unsent)} could not be sent from {name}"
        if path.duplicated:
            yield f"{row.label}: {_frames(path.duplicated)} duplicated from {name}"
    if not row.tcp_alive:
        yield f"{row.label}: the TCP stream made no progress"


def _frames(count: int) -> str:
    return f"{count} frame{'s' if count > 1 else ''}"


def _ms(ns: int) -> float:
    return round(ns / NS_PER_MS, 3)
