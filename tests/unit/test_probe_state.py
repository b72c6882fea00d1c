"""What probes say of a path: rounds with and without answers."""

from collections.abc import Collection
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.errors import TapbondError
from tapbond.probe import target_of
from tapbond.probe.state import Path
from tapbond.probe.watcher import Target
from tapbond.settings import Probing, Settings

T = 10**12
MS = 1_000_000
A, B = target_of("10.0.0.1"), target_of("10.0.0.2")
C = target_of("fd00::1")


class Walk:
    """A path that is gone along round by round, 20 ms each."""

    def __init__(
        self, *targets: Target, known: Collection[Target] = (), active: bool = True, **options: object
    ) -> None:
        self.targets = targets or (A,)
        self.known = set(known)
        self.now_ns = T
        self.active = active
        self.path = Path(self.targets, Probing(**{"grace_ns": 0, **options}), self.known, T)

    def rounds(self, count: int, *heard: Target) -> "Walk":
        for _ in range(count):
            for target in self.targets:
                self.path.sent(target)
            for target in heard:
                self.path.heard(target, 1000)
            self.now_ns += 20 * MS
            self.path.close_round(self.active, self.now_ns)
        return self


def test_lost_after_so_many_in_a_row() -> None:
    walk = Walk(missed_max=3).rounds(1, A)
    assert walk.rounds(2).path.answered
    assert walk.rounds(1, A).rounds(2).path.answered
    assert not walk.rounds(1).path.answered


def test_a_path_that_is_not_in_use_may_miss_one_more() -> None:
    walk = Walk(missed_max=2, active=False).rounds(1, A)
    assert walk.rounds(2).path.answered
    assert not walk.rounds(1).path.answered


def test_the_path_in_use_is_back_with_its_first_answer() -> None:
    walk = Walk(missed_max=2).rounds(1, A).rounds(5)
    assert walk.rounds(1, A).path.answered


def test_another_path_has_to_answer_as_often_as_it_takes_to_lose_it() -> None:
    walk = Walk(missed_max=2, active=False).rounds(1, A).rounds(5)
    assert not walk.rounds(2, A).path.answered
    assert not walk.rounds(1).rounds(2, A).path.answered
    assert walk.rounds(1, A).path.answered


def test_every_second_frame_is_not_enough_to_be_taken() -> None:
    walk = Walk(missed_max=1, active=False).rounds(1, A).rounds(2)
    for _ in range(50):
        assert not walk.rounds(1, A).rounds(1).path.answered


def test_what_nobody_has_heard_says_nothing() -> None:
    walk = Walk().rounds(100)
    assert walk.path.answered
    (probe,) = walk.path.status()
    assert (probe.answered, probe.missed, probe.rtt_ns) == (False, 0, None)


def test_what_another_path_has_heard_counts() -> None:
    walk = Walk(missed_max=2).rounds(100)
    walk.known.add(A)
    assert walk.rounds(1).path.answered
    assert not walk.rounds(1).path.answered


def test_the_grace_ends_with_its_time() -> None:
    walk = Walk(known=[A], grace_ns=200 * MS, missed_max=2)
    assert walk.rounds(9).path.answered
    assert not walk.rounds(1).path.answered


def test_the_grace_ends_with_the_first_answer() -> None:
    walk = Walk(known=[A], grace_ns=200 * MS, missed_max=2).rounds(1, A)
    assert not walk.rounds(2).path.answered


def test_the_grace_is_each_targets_own() -> None:
    walk = Walk(A, C, known=[A, C], grace_ns=200 * MS, missed_max=2)
    assert walk.rounds(9, A).path.answered
    assert not walk.rounds(1, A).path.answered


def test_a_link_that_comes_up_begins_anew() -> None:
    walk = Walk(grace_ns=100 * MS, missed_max=2).rounds(1, A).rounds(9)
    assert not walk.path.answered
    walk.path.restart(walk.now_ns)
    assert walk.path.answered
    assert walk.rounds(4).path.answered
    assert not walk.rounds(1).path.answered


def test_what_was_not_sent_is_not_missed() -> None:
    walk = Walk(missed_max=1).rounds(1, A)
    for _ in range(5):
        walk.path.close_round(True, walk.now_ns)
    assert walk.path.answered


def test_a_change_of_role_begins_to_count_anew() -> None:
    walk = Walk(missed_max=2, active=False).rounds(1, A).rounds(2)
    walk.active = True
    assert walk.rounds(1).path.answered
    assert not walk.rounds(1).path.answered


def test_fresh_is_what_has_answered_last() -> None:
    walk = Walk(known=[A])
    assert not walk.path.fresh
    assert walk.rounds(1, A).path.fresh
    assert not walk.rounds(1).path.fresh
    assert walk.path.answered


@pytest.mark.parametrize(("all_targets", "any_watcher"), [*product([False, True], repeat=2)])
def test_any_and_all(all_targets: bool, any_watcher: bool) -> None:
    """A and B are asked by ARP, C by neighbour discovery; all are known."""
    for heard in ([], [A], [B], [C], [A, B], [A, C], [B, C], [A, B, C]):
        walk = Walk(A, B, C, all_targets=all_targets, any_watcher=any_watcher).rounds(1, A, B, C).rounds(5, *heard)
        arp = (all if all_targets else any)(target in heard for target in (A, B))
        neighbour = C in heard
        expected = arp or neighbour if any_watcher else arp and neighbour
        assert walk.path.answered is expected, heard
        assert walk.path.fresh is expected, heard


def test_a_kind_of_which_nothing_is_known_is_left_out() -> None:
    walk = Walk(A, C, missed_max=2).rounds(5, A)
    assert walk.path.answered
    assert not walk.rounds(2).path.answered


def test_status() -> None:
    walk = Walk(A, C, missed_max=2).rounds(1, A, C).rounds(3, C)
    first, second = walk.path.status()
    assert (first.target, first.answered, first.missed, first.rtt_ns) == ("10.0.0.1", False, 3, 1000)
    assert (second.target, second.answered, second.missed) == ("fd00::1", True, 0)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=60),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_against_a_model(steps: list[tuple[bool, bool, bool]], missed_max: int, grace: int) -> None:
    """The rules once more, with the history at hand: (heard, in use, link came up) a round."""
    walk = Walk(known=[A], missed_max=missed_max, grace_ns=grace * 20 * MS)
    history: list[bool] = []
    run: list[bool] = []
    lost, active = False, False
    for heard, in_use, came_up in steps:
        if came_up:
            walk.path.restart(walk.now_ns)
            history, run, lost = [], [], False
        if in_use != active:
            run = [step for step in run if step]
        walk.active = active = in_use
        walk.rounds(1, *([A] if heard else []))
        history.append(heard)
        run = [*run, heard] if not run or run[-1] == heard else [heard]
        limit = missed_max + (not in_use)
        if heard:
            lost &= len(run) < (1 if in_use else limit)
        elif len(run) >= limit and (any(history) or len(history) >= grace):
            lost = True
        assert walk.path.answered is not lost
        assert walk.path.fresh is heard
        assert walk.path.status()[0].missed == (0 if heard else len(run))


@pytest.mark.parametrize("options", [{"interval_ns": 19 * MS}, {"interval_ns": 0}, {"missed_max": 0}])
def test_no_probing(options: dict[str, int]) -> None:
    with pytest.raises(TapbondError, match=r"at least 20 ms|cannot be lost"):
        Probing(**options)
    with pytest.raises(TapbondError):
        Settings.of("tb0", {"standby": "eth0", "probing": options})
