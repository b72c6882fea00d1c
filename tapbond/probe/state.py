"""What probes have told of one path: pure, time is an argument.

The rules are those of bond_ab_arp_inspect() in drivers/net/bonding/bond_main.c where it has one:

- A target is *lost* on a path after ``missed_max`` probes in a row without an answer; on a path that is not in use
  after one more, as bonding has it.
- A target that is lost on the path in use is back with its first answer. On another path it takes as many
  answers in a row as it takes to lose it, so that a path which lets every second frame through is not taken for a
  good one.
- A target that has never answered over any path says nothing about any: it may be wrong, or not there yet.
- A target is not lost before ``grace_ns`` have passed since the link came up, unless it has answered since: a
  switch's port may take its time before it forwards.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from tapbond.probe.watcher import Target
from tapbond.settings import Probing
from tapbond.state import ProbeStatus


class TargetState:
    """One target, over one path."""

    __slots__ = ("answers", "asked", "ever", "heard", "lost", "missed", "rtt_ns", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rtt_ns: int | None = None
        """From the last probe to its answer."""
        self.forget()

    def forget(self) -> None:
        """Know nothing of it again."""
        self.missed = 0
        """Probes without an answer in a row."""
        self.answers = 0
        """Probes with an answer in a row."""
        self.lost = False
        self.ever = False
        """It has answered since the link came up."""
        self.asked = self.heard = False
        """In this round."""

    def close_round(self, limit: int, to_return: int, graced: bool) -> None:
        """Count what this round has brought; see the rules above."""
        if self.heard:
            self.ever, self.missed = True, 0
            self.answers += 1
            self.lost &= self.answers < to_return
        elif self.asked:
            self.answers = 0
            self.missed += 1
            self.lost |= self.missed >= limit and (self.ever or not graced)
        self.asked = self.heard = False


class Memory(NamedTuple):
    """What is known of one path."""

    states: dict[Target, TargetState]
    active: bool
    grace_until_ns: int
    answered: bool


class Path:
    """What is known of one slave's path.

    Args:
        targets: what is asked for.
        probing: how.
        known: targets that have answered over any path; all paths of a failover share it.
        now_ns: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, targets: Sequence[Target], probing: Probing, known: set[Target], now_ns: int) -> None:
        self._states = {target: TargetState(target) for target in targets}
        self._probing = probing
        self._known = known
        self._active = False
        self._grace_until_ns = 0
        self.restart(now_ns)

    @property
    def answered(self) -> bool:
        """Whether the path is held to work; True while no target is known."""
        return self._all_is_well(lambda state: not state.lost)

    @property
    def fresh(self) -> bool:
        """Whether it worked in the last round."""
        return self._all_is_well(lambda state: state.ever and state.missed == 0)

    def restart(self, now_ns: int) -> None:
        """The link came up: what was before says nothing any more."""
        self._grace_until_ns = now_ns + self._probing.grace_ns
        for state in self._states.values():
            state.forget()

    @property
    def memory(self) -> Memory:
        """What a path to other targets may inherit."""
        return Memory(self._states, self._active, self._grace_until_ns, self.answered)

    def inherit(self, memory: Memory) -> None:
        """Know of each target what was known; what was asked for last is not waited for.

        On a path that was not trusted, a target that is new has to answer before it speaks for it.
        """
        states, self._active, grace_until_ns, answered = memory
        for target in self._states.keys() - states.keys():
            self._states[target].lost = not answered
        if self._states.keys() == states.keys():
            self._grace_until_ns = grace_until_ns
        for target in self._states.keys() & states.keys():
            self._states[target] = states[target]
            self._states[target].asked = self._states[target].heard = False

    def sent(self, target: Target) -> None:
        """Note that a probe is under way."""
        self._states[target].asked = True

    def heard(self, target: Target, rtt_ns: int | None) -> None:
        """Note an answer, and how long it took."""
        self._states[target].heard = True
        self._states[target].rtt_ns = rtt_ns
        self._known.add(target)

    def close_round(self, active: bool, now_ns: int) -> None:
        """Count what the probes of this round have brought.

        Args:
            active: whether the path is in use. One that has just become so, or ceased to be, starts to count
                anew: its probes come from another MAC, and another limit holds.
            now_ns: CLOCK_MONOTONIC in ns.
        """
        if active != self._active:
            self._active = active
            for state in self._states.values():
                state.missed = 0
        limit = self._probing.missed_max + (not active)
        graced = now_ns < self._grace_until_ns
        for target, state in self._states.items():
            if target not in self._known:
                state.asked = False
            state.close_round(limit, 1 if active else limit, graced)

    def status(self) -> tuple[ProbeStatus, ...]:
        """Return what ``tapbond status`` shows."""
        return tuple(
            ProbeStatus(
                target=state.target.text,
                answered=state.ever and not state.lost,
                missed=state.missed,
                rtt_ns=state.rtt_ns,
            )
            for state in self._states.values()
        )

    def _all_is_well(self, well: Callable[[TargetState], bool]) -> bool:
        """Return whether so many targets are well that the path is.

        ``all_targets``: of each kind (ARP, neighbour) every one; else any one of it. ``any_watcher``: it is enough
        of one kind; else of each kind that is used. Targets that are not known, and kinds without any, are left
        out.
        """
        kinds: dict[str, list[bool]] = {}
        for target, state in self._states.items():
            if target in self._known:
                kinds.setdefault(target.watcher.name, []).append(well(state))
        enough: Callable[[Collection[bool]], bool] = all if self._probing.all_targets else any
        verdicts = [enough(kind) for kind in kinds.values()]
        return not verdicts or (any(verdicts) if self._probing.any_watcher else all(verdicts))
