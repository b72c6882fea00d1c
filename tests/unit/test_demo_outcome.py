"""The demo's figures, from records made up."""

import msgspec
import pytest
from demo_evidence import (
    DOWN,
    EVENT_NS,
    FRAMES,
    INTERVAL,
    MS,
    UP,
    evidence,
    flow,
    outcome,
    stream,
    switchover,
)

from tapbond.lab.demo.outcome import (
    UNDER_WAY_MAX_NS,
    Evidence,
    Outcome,
    Row,
    passed_ns,
    rows,
    totals,
    verdict,
)
from tapbond.lab.demo.plan import Step


def faults(given: Evidence) -> tuple[str, ...]:
    found = rows(given)
    return verdict(found, totals(given, found)).faults


def test_clean_run_has_two_rows_and_passes() -> None:
    given = evidence()
    before, row = rows(given)
    assert (before.event, before.expected, before.detector) == ("undisturbed", "", None)
    assert (row.event, row.at_s, row.detector, row.detection_ms) == ("primary-down", 1.0, "netlink", 0.25)
    assert (row.resent, row.copies_dropped, row.switched, row.tcp_alive) == (3, 1, True, True)
    assert row.to_far.sent + before.to_far.sent == FRAMES
    assert row.to_far.outage_ms == 0.0
    assert faults(given) == ()


def test_outage_is_counted_around_the_switchover_only() -> None:
    at = EVENT_NS // INTERVAL
    near, late = range(at, at + 40), range(at + 6000, at + 6100)
    row = rows(evidence(to_far=flow(lost=near), to_host=flow(lost=late)))[1]
    assert (row.to_far.lost, row.to_far.outage_ms) == (40, 4.0)
    assert (row.to_host.lost, row.to_host.outage_ms) == (100, 0.0)


def test_frame_that_the_event_caught_in_a_queue_is_the_events() -> None:
    at = EVENT_NS // INTERVAL
    queued = range(at - 60, at - 20)
    before, row = rows(evidence(to_far=flow(lost=queued, delay=3 * MS)))
    assert (before.to_far.lost, row.to_far.lost) == (0, 40)


def test_frame_lost_long_before_the_event_is_not_the_events() -> None:
    at = EVENT_NS // INTERVAL
    before, row = rows(evidence(to_far=flow(lost=range(at - 60, at - 20))))
    assert (before.to_far.lost, row.to_far.lost) == (40, 0)


def test_no_frame_is_under_way_for_ever() -> None:
    gone = flow(lost=range(100, FRAMES - 1))
    assert passed_ns(gone)[100] == gone.sent_ns[100] + UNDER_WAY_MAX_NS
    assert passed_ns(flow(lost=range(100, FRAMES)))[100] == gone.sent_ns[100]


def test_refused_frame_was_never_under_way() -> None:
    record = flow(refused=[100])
    assert passed_ns(record)[100] == record.sent_ns[100]


@pytest.mark.parametrize(
    ("step", "fault"),
    [(DOWN, ()), (UP, ("primary set up: 1 frame lost from far to host, though both links worked",))],
)
def test_loss_is_a_fault_of_a_planned_switch_only(step: Step, fault: tuple[str, ...]) -> None:
    lost = flow(lost=[EVENT_NS // INTERVAL + 2])
    assert faults(evidence(step, to_host=lost)) == fault


def test_duplicate_is_always_a_fault() -> None:
    twice = flow(twice=[EVENT_NS // INTERVAL + 2, EVENT_NS // INTERVAL + 3])
    assert faults(evidence(to_far=twice)) == ("primary set down: 2 frames duplicated from host to far",)


def test_direction_that_stays_silent_did_not_recover() -> None:
    gone = flow(lost=range(EVENT_NS // INTERVAL, FRAMES))
    assert "primary set down: far to host did not recover" in faults(evidence(to_host=gone))


def test_missing_switchover_is_a_fault() -> None:
    row = rows(evidence(switchovers=[]))[1]
    assert (row.detector, row.detection_ms, row.switched) == (None, None, False)
    assert faults(evidence(switchovers=[])) == ("primary set down: tapbond did not switch to eth0",)
    back = switchover(to_slave="eth1", serial=3, after_ns=MS)
    assert faults(evidence(switchovers=[switchover(), back]))


def test_dead_stream_is_a_fault() -> None:
    assert faults(evidence(tcp=stream(until_ms=900))) == (
        "primary set down: the TCP stream made no progress",
        "the TCP stream did not survive",
    )


def test_what_the_instrument_lost_spoils_the_figures() -> None:
    spoilt = msgspec.structs.replace(totals(evidence(), rows(evidence())), instrument_lost=7)
    assert "measuring sockets lost 7 frames" in verdict([], spoilt).faults[0]


def test_json_names_everything_and_can_be_read_back() -> None:
    made = outcome(evidence())
    text = msgspec.json.encode(made)
    data = msgspec.json.decode(text)
    assert set(data) == {"machine", "settings", "isolation", "rows", "totals", "verdict"}
    assert set(data["rows"][1]) == set(Row.__struct_fields__)
    assert data["rows"][1]["to_far"]["sender_late_ms"] == 0.0
    assert data["verdict"] == {"ok": True, "faults": []}
    assert msgspec.json.decode(text, type=Outcome) == made
