"""The policy for any number of slaves: ranks, reselection, delays, probes."""

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.model import ReceiveMode, Reselect, Role, SlaveFacts
from tapbond.policy import decide

NOW = 1_000_000_000_000
ACTIVE = ReceiveMode.ACTIVE
ALWAYS, BETTER, FAILURE = Reselect.ALWAYS, Reselect.BETTER, Reselect.FAILURE
TIMES = (0, NOW - 1, NOW, NOW + 1, NOW + 10**8)

facts = st.builds(
    SlaveFacts,
    port=st.integers(0, 31),
    role=st.sampled_from(Role),
    up=st.booleans(),
    carrier=st.booleans(),
    prio=st.sampled_from((-50, 0, 10, 11)),
    sticky=st.booleans(),
    forced=st.booleans(),
    speed=st.sampled_from((0, 1000, 10_000)),
    full_duplex=st.booleans(),
    answered=st.booleans(),
    tolerated_until_ns=st.sampled_from(TIMES),
    held_until_ns=st.sampled_from(TIMES),
    settled_ns=st.sampled_from(TIMES),
)
slaves = st.lists(facts, max_size=8, unique_by=lambda fact: fact.port)
ports = st.none() | st.integers(0, 31)
reselections = st.sampled_from(Reselect)


def fact(port: int, role: Role = Role.BACKUP, **properties: object) -> SlaveFacts:
    known: dict[str, object] = {"up": True, "carrier": True, **properties}
    return SlaveFacts(port=port, role=role, **known)


ETH0, ETH1, ETH2 = fact(0, Role.STANDBY), fact(1, Role.PRIMARY, prio=10), fact(2, prio=11)
DOWN1 = fact(1, Role.PRIMARY, prio=10, up=False)
DOWN2 = fact(2, prio=11, up=False)


@pytest.mark.parametrize(
    ("found", "active", "always", "better", "failure"),
    [
        # bond_options.sh, prio_test(): who is active, after which change, by primary_reselect 0, 1 and 2.
        ([ETH0, ETH1, ETH2], None, 1, 1, 1),
        ([ETH0, DOWN1, ETH2], 1, 2, 2, 2),
        ([ETH0, DOWN1, DOWN2], 2, 0, 0, 0),
        ([ETH0, DOWN1, ETH2], 0, 2, 0, 0),
        ([ETH0, ETH1, ETH2], 2, 1, 2, 2),
        ([ETH0, ETH1, ETH2], 0, 1, 0, 0),
        # The link that is back is faster, as fast with full duplex, or slower.
        ([ETH0, fact(1, Role.PRIMARY, speed=10_000)], 0, 1, 1, 0),
        ([fact(0, Role.STANDBY, speed=1000), fact(1, Role.PRIMARY, speed=1000, full_duplex=True)], 0, 1, 1, 0),
        ([fact(0, Role.STANDBY, speed=1000), fact(1, Role.PRIMARY, speed=1000)], 0, 1, 0, 0),
        ([fact(0, Role.STANDBY, speed=10_000), fact(1, Role.PRIMARY, speed=1000)], 0, 1, 0, 0),
        # bonding.rst: primary_reselect is ignored when none is active, and at the primary's first enslavement.
        ([ETH0, fact(1, Role.PRIMARY, forced=True)], 0, 1, 1, 1),
        ([ETH0, ETH1], None, 1, 1, 1),
        # Sticky: it stays while it is ready.
        ([fact(0, Role.STANDBY, sticky=True), ETH1], 0, 0, 0, 0),
        ([fact(0, Role.STANDBY, sticky=True, carrier=False), ETH1], 0, 1, 1, 1),
        # Equals stay; without an active one the lowest port goes first.
        ([fact(3), fact(4)], 4, 4, 4, 4),
        ([fact(3), fact(4)], None, 3, 3, 3),
        ([fact(3), fact(4, prio=1)], 3, 4, 3, 3),
        # The standby goes before a backup of the same prio, and after one of a higher.
        ([ETH0, fact(2)], None, 0, 0, 0),
        ([ETH0, fact(2, prio=1)], None, 2, 2, 2),
        ([fact(0, Role.STANDBY, prio=5), fact(2, prio=1)], None, 0, 0, 0),
        # Probes: an answered path goes before all ranks; where none is answered nothing takes over.
        ([ETH0, fact(1, Role.PRIMARY, answered=False)], 1, 0, 0, 0),
        ([fact(0, Role.STANDBY, answered=False), fact(1, Role.PRIMARY, answered=False)], 1, 1, 1, 1),
        ([fact(0, Role.STANDBY, answered=False), fact(1, Role.PRIMARY, answered=False)], 0, 0, 0, 0),
        ([fact(0, Role.STANDBY, answered=False), fact(1, Role.PRIMARY, answered=False)], None, 1, 1, 1),
        # Downdelay: who is active stays, who is not is only used when there is nobody else.
        ([ETH0, fact(1, Role.PRIMARY, carrier=False, tolerated_until_ns=NOW + 1)], 1, 1, 1, 1),
        ([ETH0, fact(1, Role.PRIMARY, carrier=False, tolerated_until_ns=NOW)], 1, 0, 0, 0),
        ([ETH0, fact(1, Role.PRIMARY, carrier=False, tolerated_until_ns=NOW + 1)], 0, 0, 0, 0),
        ([fact(1, Role.PRIMARY, carrier=False, tolerated_until_ns=NOW + 1)], None, 1, 1, 1),
        # Updelay: ignored where nothing is active, and then the least is left goes first.
        ([fact(0, Role.STANDBY, settled_ns=NOW + 5), fact(1, Role.PRIMARY, settled_ns=NOW + 9)], None, 0, 0, 0),
        ([ETH0, fact(1, Role.PRIMARY, settled_ns=NOW + 1, forced=True)], 0, 0, 0, 0),
        # Nobody.
        ([DOWN1, DOWN2], 1, None, None, None),
        ([], 1, None, None, None),
    ],
)
def test_who_sends(
    found: Sequence[SlaveFacts], active: int | None, always: int | None, better: int | None, failure: int | None
) -> None:
    for reselect, expected in ((ALWAYS, always), (BETTER, better), (FAILURE, failure)):
        assert decide(ACTIVE, found, NOW, active=active, reselect=reselect).active == expected, reselect


def test_a_manual_choice_ends_when_its_probes_do() -> None:
    found = [fact(0, Role.STANDBY, answered=False), ETH1]
    decision = decide(ACTIVE, found, NOW, 0, active=0)
    assert (decision.active, decision.requested) == (1, None)


@given(slaves, ports, ports, reselections)
def test_ready_slaves_only_and_all_of_them(
    found: list[SlaveFacts], requested: int | None, active: int | None, reselect: Reselect
) -> None:
    decision = decide(ACTIVE, found, NOW, requested, active=active, reselect=reselect)
    assert sorted(decision.order) == sorted(slave.port for slave in found if slave.ready(NOW))


@given(slaves, ports, ports, reselections)
def test_deciding_again_changes_nothing(
    found: list[SlaveFacts], requested: int | None, active: int | None, reselect: Reselect
) -> None:
    once = decide(ACTIVE, found, NOW, requested, active=active, reselect=reselect)
    assert decide(ACTIVE, found, NOW, requested, active=active, reselect=reselect) == once
    again = decide(ACTIVE, found, NOW, once.requested, active=once.active, reselect=reselect)
    assert again.active == once.active
    assert decide(ACTIVE, found, NOW, again.requested, active=again.active, reselect=reselect) == again


@given(slaves, ports, ports, reselections, st.randoms(use_true_random=False))
def test_the_order_of_the_slaves_does_not_matter(
    found: list[SlaveFacts],
    requested: int | None,
    active: int | None,
    reselect: Reselect,
    shuffler: random.Random,
) -> None:
    shuffled = found[:]
    shuffler.shuffle(shuffled)
    assert decide(ACTIVE, shuffled, NOW, requested, active=active, reselect=reselect) == decide(
        ACTIVE, found, NOW, requested, active=active, reselect=reselect
    )


@given(slaves, ports, reselections)
def test_no_unanswered_path_while_one_is_answered(
    found: list[SlaveFacts], active: int | None, reselect: Reselect
) -> None:
    chosen = decide(ACTIVE, found, NOW, active=active, reselect=reselect).active
    ready = {slave.port: slave for slave in found if slave.ready(NOW)}
    if any(slave.answered for slave in ready.values()):
        assert chosen is not None
        assert ready[chosen].answered


@given(slaves)
def test_it_wakes_at_the_earliest_time_that_is_still_to_come(found: list[SlaveFacts]) -> None:
    times = [when for slave in found for when in (slave.held_until_ns, slave.settled_ns, slave.tolerated_until_ns)]
    assert decide(ACTIVE, found, NOW).wake_ns == min((when for when in times if when > NOW), default=None)


@given(slaves, ports, reselections)
def test_a_stable_world_comes_to_rest(found: list[SlaveFacts], active: int | None, reselect: Reselect) -> None:
    """With nothing but time passing, every slave becomes active at most twice, and then all is quiet."""
    now: int | None = NOW
    seen = [active]
    while now is not None:
        decision = decide(ACTIVE, found, now, active=seen[-1], reselect=reselect)
        if decision.active != seen[-1]:
            seen.append(decision.active)
        now = decision.wake_ns
    assert len(seen) <= 2 * len(found) + 2


def test_a_day_of_events_on_five_slaves_takes_moments() -> None:
    """100 000 events: links up and down, carriers, probes, switches by hand; delays have tests of their own."""
    chance = random.Random(2)  # noqa: S311  (the same day every time)
    roles = (Role.STANDBY, Role.PRIMARY, Role.BACKUP, Role.BACKUP, Role.BACKUP)
    world = [fact(port, role, prio=port) for port, role in enumerate(roles)]
    pool = {
        (port, up, carrier, answered): SlaveFacts(
            port=port, role=roles[port], prio=world[port].prio, up=up, carrier=carrier, answered=answered
        )
        for port in range(5)
        for up in (False, True)
        for carrier in (False, True)
        for answered in (False, True)
    }
    state = {port: [True, True, True] for port in range(5)}
    active: int | None = None
    requested: int | None = None
    started = time.perf_counter()
    for step in range(100_000):
        state[chance.randrange(5)][chance.randrange(3)] = chance.random() < 0.7
        if step % 1000 == 0:
            requested = chance.choice((None, 0, 1, 2))
        found = [pool[port, up, carrier, answered] for port, (up, carrier, answered) in state.items()]
        former = active
        decision = decide(ACTIVE, found, NOW + step, requested, active=active)
        active, requested = decision.active, decision.requested
        ready = {slave.port: slave for slave in found if slave.up and slave.carrier}
        heard = [slave for slave in ready.values() if slave.answered]
        best = min(
            heard or ready.values(), key=lambda slave: (slave.role is not Role.PRIMARY, -slave.prio), default=None
        )
        if requested is not None:
            assert active == requested
        elif not heard and former in ready:
            assert active == former
        else:
            assert active == (best and best.port)
    assert time.perf_counter() - started < 5
