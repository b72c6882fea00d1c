"""Records of a demo made up for tests: ten frames a ms, one event after a second."""

from array import array
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from tapbond.lab.demo.outcome import Evidence, Machine, Outcome, rows, totals, verdict
from tapbond.lab.demo.plan import STEPS, Settings, Step
from tapbond.lab.report import FlowRecord, StreamRecord
from tapbond.model import Detector, Switchover

MS = 1_000_000
INTERVAL = 100_000
FRAMES = 20_000
EVENT_NS = 1000 * MS
DOWN, UP = STEPS[0], STEPS[1]


def flow(
    lost: Collection[int] = (),
    twice: Collection[int] = (),
    delay: int = 50_000,
    refused: Collection[int] = (),
) -> FlowRecord:
    sent = array("q", range(0, FRAMES * INTERVAL, INTERVAL))
    seqs = [
        seq
        for seq in range(FRAMES)
        if seq not in lost and seq not in refused
        for _ in range(2 if seq in twice else 1)
    ]
    return FlowRecord(
        interval_ns=INTERVAL,
        sent_ns=sent,
        error=array("i", (-11 if seq in refused else 0 for seq in range(FRAMES))),
        received_seq=array("Q", seqs),
        received_ns=array("q", (sent[seq] + delay for seq in seqs)),
    )


def stream(until_ms: int = 2000) -> StreamRecord:
    times = array("q", range(0, until_ms * MS, MS))
    return StreamRecord(
        started_ns=0,
        ended_ns=2000 * MS,
        first_ns=times,
        last_ns=times,
        bytes_total=array("q", range(len(times))),
        sent=len(times),
        received=len(times),
        send_error=0,
        receive_error=0,
    )


def switchover(step: Step = DOWN, after_ns: int = 250_000, serial: int = 2, **changes: Any) -> Switchover:
    record = Switchover(
        failover="tb0",
        serial=serial,
        from_slave="eth1",
        to_slave=step.to,
        cause="down",
        detector=Detector.NETLINK,
        detected_ns=EVENT_NS + after_ns,
        decided_ns=EVENT_NS + after_ns,
        resent=3,
        duplicates=1,
    )
    return msgspec.structs.replace(record, **changes)


def evidence(
    step: Step = DOWN,
    to_far: FlowRecord | None = None,
    to_host: FlowRecord | None = None,
    tcp: StreamRecord | None = None,
    switchovers: Sequence[Switchover] | None = None,
) -> Evidence:
    return Evidence(
        to_far=to_far or flow(),
        to_host=to_host or flow(),
        stream=tcp or stream(),
        marks=[(step, EVENT_NS)],
        switchovers=[switchover(step)] if switchovers is None else switchovers,
    )


def outcome(given: Evidence) -> Outcome:
    found = rows(given)
    sums = totals(given, found)
    return Outcome(
        machine=Machine(kernel="6.1.0", arch="x86_64", cpus=2, python="3.11.2", tapbond="0.1.0"),
        settings=Settings(),
        isolation="bridge",
        rows=tuple(found),
        totals=sums,
        verdict=verdict(found, sums),
    )
