"""What a flow went through, computed from its record: pure, nothing is read but the arguments.

All times are CLOCK_MONOTONIC in nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """What became of each datagram of a flow."""

    interval_ns: int
    """The nominal time between two datagrams."""
    sent_ns: Sequence[int]
    """By sequence number: when it was sent."""
    error: Sequence[int]
    """By sequence number: 0, or the ``-errno`` with which the socket refused it."""
    received_seq: Sequence[int]
    """In order of arrival: which datagram."""
    received_ns: Sequence[int]
    """In order of arrival: when, as stamped by the kernel."""
    instrument_lost: int = 0
    """Datagrams that arrived and were lost by the measuring socket: above 0, ``lost`` means little."""


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """How a TCP stream progressed: samples of about a millisecond in which bytes arrived."""

    started_ns: int
    ended_ns: int
    """When the record was taken."""
    first_ns: Sequence[int]
    """By sample: its first arrival."""
    last_ns: Sequence[int]
    """By sample: its last arrival."""
    bytes_total: Sequence[int]
    """By sample: bytes received and verified since the start."""
    sent: int
    received: int
    send_error: int
    """The ``-errno`` that ended the sender, or 0."""
    receive_error: int
    """The ``-errno`` that ended the receiver, or 0; ``-EBADMSG``: wrong contents, ``-EPIPE``: end."""


@dataclass(frozen=True, slots=True)
class Window:
    """What happened from one event to the next."""

    name: str
    start_ns: int
    end_ns: int | None
    """The next event; None for the last window."""
    sent: int
    """Datagrams sent in the window, without the unsent."""
    unsent: int
    """Datagrams that the socket refused in the window: they never left."""
    lost: int
    """Datagrams sent in the window and never received; one caught in flight by the event was sent before."""
    duplicated: int
    """Receptions beyond the first, of datagrams sent in the window."""
    reordered: int
    """Datagrams sent in the window that arrived after one with a higher number (RFC 4737)."""
    outage_ns: int
    """The longest silence that overlaps the window, less the nominal interval (:func:`longest_silence`)."""
    sender_outage_ns: int
    """The same of the sender: what it was late by is no fault of the path. Compare with ``outage_ns``."""
    first_received_after_ns: int | None
    """From the event to the arrival of the first datagram sent in the window; None if none arrived."""


def _silences(record: FlowRecord) -> list[tuple[int, int]]:
    """Return (begin, end) of the time between each two arrivals.

    The first begins when the flow began; if the flow ends in silence, the last lasts until its last sending.
    """
    if not record.sent_ns:
        return []
    marks = [record.sent_ns[0], *sorted(record.received_ns)]
    return list(pairwise([*marks, max(record.sent_ns[-1], marks[-1])]))


def longest_silence(silences: Iterable[tuple[int, int]], start_ns: int, end_ns: int | None) -> int:
    """Return the length of the longest (begin, end) that overlaps [start_ns, end_ns), in ns, 0 if none does.

    Such a one ends after ``start_ns`` and begins before ``end_ns``. It counts in whole,
    with what lies outside: a silence that spans an event is the same silence in both windows.
    """
    overlapping = (e - b for b, e in silences if e > start_ns and (end_ns is None or b < end_ns))
    return max(overlapping, default=0)


class _Tally:
    """Counts for one window while the record is gone through."""

    def __init__(self) -> None:
        self.sent = self.unsent = self.lost = self.duplicated = self.reordered = 0
        self.first_ns: int | None = None


def _count_sent(record: FlowRecord, starts: list[int], tallies: list[_Tally]) -> None:
    received = set(record.received_seq)
    for seq, (sent_ns, error) in enumerate(zip(record.sent_ns, record.error, strict=True)):
        tally = tallies[bisect_right(starts, sent_ns)]
        if error:
            tally.unsent += 1
        else:
            tally.sent += 1
            tally.lost += seq not in received


def _count_received(record: FlowRecord, starts: list[int], tallies: list[_Tally]) -> None:
    seen: set[int] = set()
    highest = -1
    for seq, at in zip(record.received_seq, record.received_ns, strict=True):
        if seq >= len(record.sent_ns):
            continue  # a live record: it was received before it was counted as sent
        tally = tallies[bisect_right(starts, record.sent_ns[seq])]
        if seq in seen:
            tally.duplicated += 1
            continue
        seen.add(seq)
        tally.reordered += seq < highest
        highest = max(highest, seq)
        tally.first_ns = at if tally.first_ns is None else min(at, tally.first_ns)


def windows(record: FlowRecord, events: Iterable[tuple[str, int]]) -> list[Window]:
    """Return what happened in each [event, next event), in the order of time.

    A datagram belongs to the window in which it was sent; those sent before the first event are in none.
    """
    ordered = sorted(events, key=lambda event: event[1])
    starts = [at for _, at in ordered]
    tallies = [_Tally() for _ in range(len(ordered) + 1)]  # the first is for what comes before
    _count_sent(record, starts, tallies)
    _count_received(record, starts, tallies)
    silences, sendings = _silences(record), list(pairwise(record.sent_ns))
    ends: list[int | None] = [*starts[1:], None]
    return [
        Window(
            name=name,
            start_ns=start,
            end_ns=end,
            sent=tally.sent,
            unsent=tally.unsent,
            lost=tally.lost,
            duplicated=tally.duplicated,
            reordered=tally.reordered,
            outage_ns=max(0, longest_silence(silences, start, end) - record.interval_ns),
            sender_outage_ns=max(0, longest_silence(sendings, start, end) - record.interval_ns),
            first_received_after_ns=None if tally.first_ns is None else tally.first_ns - start,
        )
        for (name, start), end, tally in zip(ordered, ends, tallies[1:], strict=True)
    ]


def total(record: FlowRecord) -> Window:
    """Return what happened in the whole flow, as one window."""
    start = record.sent_ns[0] if record.sent_ns else 0
    return windows(record, [("total", start)])[0]


def series(record: FlowRecord, bucket_ns: int) -> list[tuple[int, int]]:
    """Return (start of the bucket, datagrams received in it) from the first sending to the last arrival."""
    if not record.sent_ns:
        return []
    origin = record.sent_ns[0]
    last = max(record.sent_ns[-1], max(record.received_ns, default=origin))
    counts = [0] * ((last - origin) // bucket_ns + 1)
    for at in record.received_ns:
        counts[max(0, at - origin) // bucket_ns] += 1
    return [(origin + i * bucket_ns, count) for i, count in enumerate(counts)]


def stream_outage_ns(record: StreamRecord, start_ns: int, end_ns: int | None = None) -> int:
    """Return the longest time without progress that overlaps [start_ns, end_ns) (:func:`longest_silence`)."""
    begins = [record.started_ns, *record.last_ns]
    ends = [*record.first_ns, max(record.ended_ns, begins[-1])]
    return longest_silence(zip(begins, ends, strict=True), start_ns, end_ns)


def stream_alive(record: StreamRecord, since_ns: int) -> bool:
    """Return whether the stream progressed after ``since_ns``, with no error and the right contents."""
    progressed = bool(record.last_ns) and record.last_ns[-1] > since_ns
    return progressed and not record.send_error and not record.receive_error
