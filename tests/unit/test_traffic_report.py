"""What a flow's record is made into, and that the records are right where no network is needed."""

from collections.abc import Collection
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.lab.report import (
    FlowRecord,
    StreamRecord,
    longest_silence,
    series,
    stream_alive,
    stream_outage_ns,
    total,
    windows,
)

INTERVAL = 100
LATENCY = 7


def flow(
    count: int,
    lost: Collection[int] = (),
    unsent: Collection[int] = (),
    arrivals: list[int] | None = None,
) -> FlowRecord:
    """Return the record of ``count`` datagrams, one each INTERVAL, each LATENCY under way."""
    arrived = [s for s in range(count) if s not in lost and s not in unsent] if arrivals is None else arrivals
    return FlowRecord(
        interval_ns=INTERVAL,
        sent_ns=[s * INTERVAL for s in range(count)],
        error=[-101 if s in unsent else 0 for s in range(count)],
        received_seq=arrived,
        received_ns=[s * INTERVAL + LATENCY for s in arrived],
    )


def test_undisturbed_flow_has_nothing_to_report() -> None:
    window = total(flow(10))
    assert (window.sent, window.unsent, window.lost, window.duplicated, window.reordered) == (10, 0, 0, 0, 0)
    assert window.outage_ns == 0
    assert window.first_received_after_ns == LATENCY


def test_lost_datagrams_belong_to_the_window_they_were_sent_in() -> None:
    before, after = windows(flow(10, lost={4, 5, 7}), [("start", 0), ("down", 5 * INTERVAL)])
    assert (before.lost, before.sent) == (1, 5)
    assert (after.lost, after.sent) == (2, 5)
    assert (before.end_ns, after.end_ns) == (5 * INTERVAL, None)


def test_a_refused_datagram_is_unsent_and_not_lost() -> None:
    window = total(flow(10, unsent={3, 4}))
    assert (window.sent, window.unsent, window.lost) == (8, 2, 0)
    assert window.outage_ns == 2 * INTERVAL


def test_outage_is_the_longest_gap_less_the_interval_in_every_window_it_overlaps() -> None:
    record = flow(20, lost={5, 6, 7, 8})
    events = [("start", 0), ("down", 520), ("up", 700), ("later", 1000)]
    assert [w.outage_ns for w in windows(record, events)] == [400, 400, 400, 0]


def test_flow_that_ends_in_silence_has_an_outage_until_its_last_sending() -> None:
    window = windows(flow(10, lost={6, 7, 8, 9}), [("down", 600)])[0]
    assert window.outage_ns == 900 - (500 + LATENCY) - INTERVAL
    assert window.first_received_after_ns is None


def test_first_received_counts_datagrams_sent_after_the_event_not_those_in_flight() -> None:
    window = windows(flow(10, lost={3, 4}), [("down", 203)])[0]
    assert window.first_received_after_ns == 500 + LATENCY - 203


def test_sender_that_was_late_shows_beside_the_outage() -> None:
    record = FlowRecord(INTERVAL, [0, 100, 900, 900], [0] * 4, [0, 1, 2, 3], [7, 107, 907, 908])
    window = total(record)
    assert (window.outage_ns, window.sender_outage_ns) == (700, 700)


def test_duplicates_and_reordering() -> None:
    window = total(flow(5, arrivals=[0, 2, 1, 3, 3, 4, 0]))
    assert (window.duplicated, window.reordered, window.lost) == (2, 1, 0)


def test_reception_not_yet_counted_as_sent_is_left_out() -> None:
    window = total(flow(3, arrivals=[0, 1, 2, 3]))
    assert (window.sent, window.lost, window.duplicated) == (3, 0, 0)


def test_events_are_taken_in_the_order_of_time() -> None:
    assert [w.name for w in windows(flow(3), [("b", 200), ("a", 100)])] == ["a", "b"]


def test_empty_flow() -> None:
    record = FlowRecord(INTERVAL, [], [], [], [])
    assert total(record).sent == total(record).outage_ns == 0
    assert series(record, 10) == []


def test_series_has_empty_buckets() -> None:
    assert series(flow(6, lost={2, 3}), 2 * INTERVAL) == [(0, 2), (200, 0), (400, 2)]


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(0, None, 50), (0, 10, 10), (10, 11, 50), (60, None, 5), (65, None, 0)]
)
def test_longest_silence(start: int, end: int | None, expected: int) -> None:
    assert longest_silence([(0, 10), (10, 60), (60, 65)], start, end) == expected


records = st.integers(1, 60).flatmap(
    lambda n: st.builds(
        flow,
        st.just(n),
        unsent=st.sets(st.integers(0, n - 1)),
        arrivals=st.lists(st.integers(0, n - 1), max_size=2 * n),
    )
)
times = st.lists(st.integers(1, 7000), max_size=5)


def without_unsent(record: FlowRecord) -> FlowRecord:
    """Return the record without the receptions that cannot be."""
    kept = [(s, at) for s, at in zip(record.received_seq, record.received_ns, strict=True) if not record.error[s]]
    return FlowRecord(
        record.interval_ns, record.sent_ns, record.error, [s for s, _ in kept], [at for _, at in kept]
    )


@given(records, times)
def test_every_datagram_is_counted_once(record: FlowRecord, at: list[int]) -> None:
    record = without_unsent(record)
    found = windows(record, [("start", 0), *(("event", t) for t in at)])
    assert sum(w.sent + w.unsent for w in found) == len(record.sent_ns)
    assert sum(w.sent - w.lost for w in found) == len(set(record.received_seq))
    assert sum(w.duplicated for w in found) == len(record.received_seq) - len(set(record.received_seq))
    assert sum(w.reordered for w in found) == total(record).reordered


@given(records, times)
def test_longest_outage_of_the_windows_is_that_of_the_flow(record: FlowRecord, at: list[int]) -> None:
    found = windows(record, [("start", 0), *(("event", t) for t in at)])
    assert max(w.outage_ns for w in found) == total(record).outage_ns
    gaps = [b - a for a, b in pairwise(sorted(record.received_ns))]
    assert total(record).outage_ns >= max(gaps, default=0) - INTERVAL


@given(records, st.integers(1, 1000))
def test_series_counts_every_reception_in_adjoining_buckets(record: FlowRecord, bucket: int) -> None:
    found = series(record, bucket)
    assert sum(count for _, count in found) == len(record.received_seq)
    assert all(b - a == bucket for (a, _), (b, _) in pairwise(found))


def stream(first: list[int], last: list[int], error: int = 0) -> StreamRecord:
    return StreamRecord(
        started_ns=0,
        ended_ns=1000,
        first_ns=first,
        last_ns=last,
        bytes_total=[8] * len(first),
        sent=8,
        received=8,
        send_error=0,
        receive_error=error,
    )


def test_stream_outage_is_measured_between_samples() -> None:
    record = stream([10, 100, 400], [90, 200, 990])
    assert stream_outage_ns(record, 0) == 200
    assert stream_outage_ns(record, 400) == 10
    assert stream_outage_ns(stream([], []), 0) == 1000


def test_stream_is_alive_if_it_progressed_after_the_event_without_error() -> None:
    assert stream_alive(stream([10], [500]), 400)
    assert not stream_alive(stream([10], [500]), 500)
    assert not stream_alive(stream([10], [500], error=-74), 400)
    assert not stream_alive(stream([], []), 0)
