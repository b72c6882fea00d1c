"""The delays of one link: pure, on a time that the test gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.delays import HOLD_DOWN_MAX_NS, HOLD_DOWN_MEMORY_NS, LinkDelays

S = 1_000_000_000
MS = 1_000_000


def test_updelay_counts_from_when_the_link_came_up() -> None:
    delays = LinkDelays(updelay_ns=100)
    delays.came_up(5_000)
    assert delays.settled_ns == 5_100


def test_without_delays_everything_counts_at_once() -> None:
    delays = LinkDelays()
    delays.lost(10)
    assert delays.tolerated_until_ns == 0
    delays.came_up(20)
    assert delays.settled_ns == 20


def test_downdelay_tolerates_a_loss_until_it_ends() -> None:
    delays = LinkDelays(updelay_ns=7, downdelay_ns=100)
    delays.lost(1_000)
    assert delays.tolerated_until_ns == 1_100


def test_a_link_back_within_its_downdelay_was_never_gone() -> None:
    delays = LinkDelays(updelay_ns=50, downdelay_ns=100, hold_down_ns=1_000)
    delays.lost(1_000)
    delays.came_up(1_099)
    assert (delays.settled_ns, delays.tolerated_until_ns) == (0, 0)
    delays.lost(2_000)
    delays.came_up(2_100)
    assert delays.settled_ns == 2_100 + 50 + 1_000


def test_an_unplugged_link_is_not_waited_for() -> None:
    delays = LinkDelays(downdelay_ns=100)
    delays.lost(1_000)
    delays.give_up()
    assert delays.tolerated_until_ns == 0


def test_hold_down_doubles_with_each_flap_up_to_a_limit() -> None:
    delays = LinkDelays(hold_down_ns=S)
    held = []
    for flap in range(12):
        delays.lost(flap * 10 * S)
        delays.came_up(flap * 10 * S + 1)
        held.append((delays.settled_ns - (flap * 10 * S + 1)) // S)
    assert held == [1, 2, 4, 8, 16, 32, 64, 128, 256, *[HOLD_DOWN_MAX_NS // S] * 3]


def test_a_link_that_was_quiet_is_forgiven() -> None:
    delays = LinkDelays(hold_down_ns=S)
    for when in (0, 10 * S):
        delays.lost(when)
        delays.came_up(when)
    assert delays.settled_ns == 12 * S
    later = 10 * S + HOLD_DOWN_MEMORY_NS + 2 * S + 1
    delays.lost(later)
    delays.came_up(later)
    assert delays.settled_ns == later + S


def test_the_first_time_up_is_not_held_down() -> None:
    delays = LinkDelays(updelay_ns=50, hold_down_ns=S)
    delays.came_up(1_000)
    assert delays.settled_ns == 1_050


def test_losses_are_counted() -> None:
    delays = LinkDelays(downdelay_ns=S)
    for when in range(3):
        delays.lost(when)
    assert delays.losses == 3


@pytest.mark.parametrize("updelay_ms", [0, 200, 500, 1000, 2000, 5000, 10_000])
def test_updelay_of_every_length(updelay_ms: int) -> None:
    """mode-1-recovery-updelay.sh has these."""
    delays = LinkDelays(updelay_ns=updelay_ms * MS)
    delays.came_up(1)
    assert delays.settled_ns == 1 + updelay_ms * MS


@given(
    st.lists(st.tuples(st.integers(1, 400 * S), st.integers(1, 400 * S)), max_size=30),
    st.sampled_from((0, 50 * MS)),
    st.sampled_from((0, S)),
    st.sampled_from((0, S, 30 * S)),
)
def test_delays_are_bounded_whatever_the_link_does(
    flaps: list[tuple[int, int]], updelay: int, downdelay: int, hold_down: int
) -> None:
    delays = LinkDelays(updelay, downdelay, hold_down)
    now = 0
    for up_for, down_for in flaps:
        now += up_for
        delays.lost(now)
        assert delays.tolerated_until_ns <= now + downdelay
        now += down_for
        delays.came_up(now)
        assert delays.settled_ns <= now + updelay + max(hold_down, HOLD_DOWN_MAX_NS)
        if hold_down == 0 and down_for > downdelay:
            assert delays.settled_ns == now + updelay
        assert delays.tolerated_until_ns == 0
