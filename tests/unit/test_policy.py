"""The policy: what it may never do, whatever the facts are."""

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.model import Decision, ReceiveMode, Role, SlaveFacts
from tapbond.policy import decide

NOW = 1_000_000_000_000

facts = st.builds(
    SlaveFacts,
    port=st.integers(0, 15),
    role=st.sampled_from(Role),
    up=st.booleans(),
    carrier=st.booleans(),
    held_until_ns=st.sampled_from((0, NOW - 1, NOW, NOW + 1, NOW + 10**9)),
    settled_ns=st.sampled_from((0, NOW - 1, NOW, NOW + 2, NOW + 10**8)),
)
slaves = st.lists(facts, max_size=6, unique_by=lambda fact: fact.port)
modes = st.sampled_from(ReceiveMode)
ports = st.none() | st.integers(0, 15)


def fact(
    port: int, role: Role, *, up: bool = True, carrier: bool = True, held: int = 0, settled: int = 0
) -> SlaveFacts:
    return SlaveFacts(port=port, role=role, up=up, carrier=carrier, held_until_ns=held, settled_ns=settled)


PRIMARY = fact(1, Role.PRIMARY)
STANDBY = fact(0, Role.STANDBY)


@given(modes, slaves, ports)
def test_only_ready_slaves_are_chosen_and_all_of_them(
    rx: ReceiveMode, found: list[SlaveFacts], requested: int | None
) -> None:
    decision = decide(rx, found, NOW, requested)
    ready = {slave.port for slave in found if slave.up and slave.carrier and slave.held_until_ns <= NOW}
    assert set(decision.order) == ready
    assert len(decision.order) == len(ready)
    assert decision.active is None or decision.active in ready
    assert (decision.active is None) == (not ready)


@given(modes, slaves, ports)
def test_deciding_again_changes_nothing(rx: ReceiveMode, found: list[SlaveFacts], requested: int | None) -> None:
    once = decide(rx, found, NOW, requested)
    assert decide(rx, found, NOW, requested) == once
    assert decide(rx, found, NOW, once.requested) == once


@given(modes, slaves, ports, st.randoms(use_true_random=False))
def test_the_order_of_the_slaves_does_not_matter(
    rx: ReceiveMode, found: list[SlaveFacts], requested: int | None, shuffler: random.Random
) -> None:
    shuffled = found[:]
    shuffler.shuffle(shuffled)
    assert decide(rx, shuffled, NOW, requested) == decide(rx, found, NOW, requested)


@given(modes, slaves, ports)
def test_the_primary_wins_whenever_it_is_ready_and_settled_unless_another_is_requested(
    rx: ReceiveMode, found: list[SlaveFacts], requested: int | None
) -> None:
    decision = decide(rx, found, NOW, requested)
    settled = {slave.port: slave.role for slave in found if slave.settled_ns <= NOW}
    primaries = {
        slave.port for slave in found if slave.role is Role.PRIMARY and slave.ready(NOW) and slave.port in settled
    }
    if decision.requested is not None:
        assert decision.active == decision.requested == requested
    elif primaries:
        assert decision.active in primaries
    followers = [settled.get(port) for port in decision.order if port != decision.requested]
    assert followers == sorted(followers, key=[Role.PRIMARY, Role.STANDBY, Role.BACKUP, None].index)


@given(modes, slaves, ports)
def test_a_request_is_forgotten_when_it_cannot_be_met(
    rx: ReceiveMode, found: list[SlaveFacts], requested: int | None
) -> None:
    ready = {slave.port for slave in found if slave.ready(NOW)}
    assert decide(rx, found, NOW, requested).requested == (requested if requested in ready else None)


@given(modes, slaves)
def test_it_wakes_at_the_earliest_time_that_is_still_to_come(rx: ReceiveMode, found: list[SlaveFacts]) -> None:
    ahead = [time for slave in found for time in (slave.held_until_ns, slave.settled_ns) if time > NOW]
    assert decide(rx, found, NOW).wake_ns == (min(ahead) if ahead else None)


@given(slaves, ports)
def test_rx_active_delivers_the_senders_frames_and_drains(found: list[SlaveFacts], requested: int | None) -> None:
    decision = decide(ReceiveMode.ACTIVE, found, NOW, requested)
    assert (decision.receive, decision.receive_sender, decision.drain) == (frozenset(), True, True)


@given(slaves)
def test_rx_kernel_refuses_the_standby_whenever_a_primary_is_registered(found: list[SlaveFacts]) -> None:
    decision = decide(ReceiveMode.KERNEL, found, NOW)
    primaries = {slave.port for slave in found if slave.role is Role.PRIMARY}
    assert decision.receive == (primaries or {slave.port for slave in found})
    assert not decision.receive_sender
    assert not decision.drain


@given(slaves)
def test_rx_any_delivers_everything(found: list[SlaveFacts]) -> None:
    decision = decide(ReceiveMode.ANY, found, NOW)
    assert decision.receive == {slave.port for slave in found}
    assert not decision.receive_sender


@pytest.mark.parametrize(
    ("found", "requested", "active"),
    [
        ([], None, None),
        ([STANDBY], None, 0),
        ([STANDBY, PRIMARY], None, 1),
        ([STANDBY, PRIMARY], 0, 0),
        ([STANDBY, PRIMARY], 7, 1),
        ([STANDBY, fact(1, Role.PRIMARY, up=False)], 1, 0),
        ([STANDBY, fact(1, Role.PRIMARY, carrier=False)], None, 0),
        ([STANDBY, fact(1, Role.PRIMARY, held=NOW + 1)], None, 0),
        ([STANDBY, fact(1, Role.PRIMARY, held=NOW)], None, 1),
        ([STANDBY, fact(1, Role.PRIMARY, settled=NOW + 1)], None, 0),
        ([STANDBY, fact(1, Role.PRIMARY, settled=NOW + 1)], 1, 1),
        ([STANDBY, fact(1, Role.PRIMARY, settled=NOW)], None, 1),
        ([fact(1, Role.PRIMARY, settled=NOW + 1)], None, 1),
        ([fact(0, Role.STANDBY, up=False), fact(1, Role.PRIMARY, settled=NOW + 1)], None, 1),
        ([fact(0, Role.STANDBY, settled=NOW + 5), fact(1, Role.PRIMARY, settled=NOW + 5)], None, 1),
        ([fact(0, Role.STANDBY, settled=NOW + 5), fact(1, Role.PRIMARY, settled=NOW + 6)], None, 0),
        ([fact(0, Role.STANDBY, up=False), fact(1, Role.PRIMARY, carrier=False)], None, None),
    ],
)
def test_who_sends(found: Sequence[SlaveFacts], requested: int | None, active: int | None) -> None:
    assert decide(ReceiveMode.ACTIVE, found, NOW, requested).active == active


@given(st.integers(0, 5), st.integers(0, 5))
def test_links_that_settle_one_after_the_other_lead_to_one_switch_at_most(standby: int, primary: int) -> None:
    """When nobody has settled, the one with the least delay left is taken, as bonding does."""
    found = [fact(0, Role.STANDBY, settled=NOW + standby), fact(1, Role.PRIMARY, settled=NOW + primary)]
    seen = []
    now: int | None = NOW
    while now is not None:
        decision = decide(ReceiveMode.ACTIVE, found, now)
        if seen[-1:] != [decision.active]:
            seen.append(decision.active)
        now = decision.wake_ns
    assert seen in ([1], [0, 1])


def test_a_day_of_flapping_links_takes_moments() -> None:
    chance = random.Random(1)  # noqa: S311  (the same day every time)
    pool = {
        (port, up, carrier): fact(port, role, up=up, carrier=carrier)
        for port, role in ((0, Role.STANDBY), (1, Role.PRIMARY))
        for up in (False, True)
        for carrier in (False, True)
    }
    state = {port: [True, True] for port in (0, 1)}
    requested: int | None = None
    decision: Decision | None = None
    started = time.perf_counter()
    for step in range(100_000):
        state[chance.randrange(2)][chance.randrange(2)] = chance.random() < 0.7
        if step % 1000 == 0:
            requested = chance.choice((None, 0, 1))
        found = [pool[port, up, carrier] for port, (up, carrier) in state.items()]
        decision = decide(ReceiveMode.ACTIVE, found, NOW + step, requested)
        requested = decision.requested
        ready = {port for port, flags in state.items() if all(flags)}
        assert set(decision.order) == ready
        assert decision.active == (requested if requested is not None else max(ready, default=None))
    assert time.perf_counter() - started < 5
