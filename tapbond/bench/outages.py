"""The failover load: each event again and again under numbered frames, beside times without any event.

Three failovers go through it; of tapbond's copy path each detector does by itself what it can see.

    netlink    --poll 0, and the host sends nothing that could fail        a lost carrier
    poll       deaf (tapbond.bench.deaf), and the host sends nothing       a lost carrier
    pump       deaf, and no poll: only its own sends that fail             a lost carrier, set down, unplugged

A socket tells the pump that its link was set down or unplugged even if nothing is sent: netlink is not alone then.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tapbond.bench.arena import RESTORED, Arena
from tapbond.bench.bed import Bed
from tapbond.bench.deaf import SIGNAL
from tapbond.bench.failures import FAILURES, as_ours
from tapbond.bench.loads import BOTH, FAILOVER
from tapbond.bench.subjects import (
    BASE,
    OURS,
    PRIMARY,
    STANDBY,
    TAP,
    isolate,
    start_ovs,
    start_tapbond,
)
from tapbond.errors import ControlError, TapbondError
from tapbond.lab.demo.plan import STEPS, Step
from tapbond.lab.topology import FAR_V4, Pair
from tapbond.lab.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapbond.bench.openvswitch import OpenVSwitch
    from tapbond.bench.plan import Settings
    from tapbond.bench.result import Trial
    from tapbond.bench.subjects import Site
    from tapbond.lab.demo.plan import Stage
    from tapbond.lab.process import FailoverProcess
    from tapbond.lab.topology import Lab
    from tapbond.model import Switchover
    from tapbond.state import Status

PROBING = ("--probe", FAR_V4, "--probe-interval", "20", "--probe-missed", "2", "--probe-grace", "200")
SILENT_STEPS = (
    Step(
        name="silent",
        label="path silent, probed every 20 ms",
        to=STANDBY,
        planned=False,
        make=lambda stage: stage.lab.silence(PRIMARY),
    ),
    Step(
        name="heard-again",
        label="path heard again",
        to=PRIMARY,
        planned=True,
        make=lambda stage: stage.lab.heal(PRIMARY),
    ),
)
QUIET_STEPS = (Step(name="quiet", label="(no event)", to="", planned=True, make=lambda _: time.monotonic_ns()),)
BY_NAME = {step.name: step for step in STEPS}
UNDO: dict[str, Callable[[Lab], int]] = {
    "carrier-lost": lambda lab: lab.restore_carrier(PRIMARY),
    "primary-down": lambda lab: lab.up(PRIMARY),
    "unplug": lambda lab: lab.plug(PRIMARY),
}
ALONE: dict[str, tuple[str, ...]] = {
    "netlink": ("carrier-lost",),
    "poll": ("carrier-lost",),
    "pump": ("carrier-lost", "primary-down", "unplug"),
}
"""What each detector of the copy path can see by itself."""
BACK_S = 10.0


class TapbondPilot:
    """Steers a ``tapbond run``.

    Args:
        running: it.
        deaf: it has to be told to look.
    """

    keeps_records = True

    def __init__(self, running: FailoverProcess, *, deaf: bool = False) -> None:
        self._running = running
        self._deaf = deaf

    def switch(self, slave: str | None) -> int:
        """Switch by hand, or let the rules choose again."""
        with self._running.client() as client:
            at = time.monotonic_ns()
            client.call("Switch", slave=slave)
        return at

    def active(self) -> str | None:
        """Return which slave sends; TapbondError: it has ended."""
        return self._status().active

    def switchovers(self) -> Sequence[Switchover]:
        """Return the last ones; TapbondError: it has ended."""
        return self._status().last_switchovers

    def is_back(self) -> bool:
        """Look, and return whether the primary sends again."""
        if self._deaf:
            self._running.process.send_signal(SIGNAL)
        return self.active() == PRIMARY

    def _status(self) -> Status:
        try:
            return self._running.status()
        except ControlError as error:
            raise TapbondError(f"tapbond run has ended{self._running.last_words()}") from error


class OvsPilot:
    """Steers a bond of Open vSwitch.

    Args:
        switch: its process.
    """

    keeps_records = False

    def __init__(self, switch: OpenVSwitch) -> None:
        self._switch = switch

    def switch(self, slave: str | None) -> int:
        """Switch by hand; None: to the primary."""
        at = time.monotonic_ns()
        self._switch.use(slave or PRIMARY)
        return at

    def make_again(self) -> None:
        """Make the bond anew, and wait until its primary sends."""
        self._switch.make_bond_again(TAP, STANDBY, PRIMARY)
        wait_until(lambda: self.active() == PRIMARY, BACK_S, "the bond's primary")

    def active(self) -> str | None:
        """Return which slave sends."""
        return self._switch.active()

    def switchovers(self) -> Sequence[Switchover]:
        """Return none."""
        return ()


def build_base(site: Site) -> Arena:
    """Build the two hosts with nothing but a bridge: what the machine itself does."""
    pair = site.stack.enter_context(Pair(mtu=site.mtu, bridge=True))
    return Arena(BASE, Bed(pair.host, pair.far, {}), QUIET_STEPS)


def build_tapbond(site: Site, name: str, steps: Sequence[Step], *options: str) -> Arena:
    """Build a failover of ours, with all its detectors."""
    path = "redirect" if name == "redirect" else "copy"
    lab, running = start_tapbond(site, "--datapath", path, *options)
    return Arena(name, Bed(lab.host, lab.far, {}), steps, lab, TapbondPilot(running))


def build_probing(site: Site, name: str) -> Arena:
    """Build a failover of ours that probes its paths."""
    return build_tapbond(site, name, SILENT_STEPS, *PROBING)


def build_alone(site: Site, detector: str) -> Arena:
    """Build a failover on the copy path that has one detector only, and no other option that was asked for."""
    site = site._replace(tapbond_options=())
    deaf = detector != "netlink"
    options = () if detector == "poll" else ("--poll", "0")
    program = ("tapbond.bench.deaf",) if deaf else ("tapbond", "run")
    lab, running = start_tapbond(site, *options, program=program)
    pilot = TapbondPilot(running, deaf=deaf)
    wait_until(pilot.is_back, BACK_S, "the primary")
    steps = [step for name in ALONE[detector] for step in (BY_NAME[name], restoring(name, pilot))]
    directions = BOTH if detector == "pump" else ("from far",)
    return Arena("tapbond", Bed(lab.host, lab.far, {}), steps, lab, pilot, alone=detector, directions=directions)


def restoring(event: str, pilot: TapbondPilot) -> Step:
    """Return a step that undoes an event, and waits until the failover has seen it."""

    def make(stage: Stage) -> int:
        at = UNDO[event](stage.lab)
        wait_until(pilot.is_back, BACK_S, f"the primary's return from {event}")
        return at

    return Step(name=RESTORED, label="", to="", planned=True, make=make)


def build_ovs(site: Site) -> Arena:
    """Build Open vSwitch's bond."""
    lab, switch = start_ovs(site, tso=True)
    pilot = OvsPilot(switch)
    wait_until(lambda: pilot.active() == PRIMARY, BACK_S, "the bond's primary")
    steps = [step for step in STEPS if step.name not in ("unplug", "re-plug")]
    steps += [BY_NAME["unplug"], replugging(pilot)]
    return Arena("ovs-tso", Bed(lab.host, lab.far, {}), steps, lab, pilot)


def replugging(pilot: OvsPilot) -> Step:
    """Return a step that does by hand what the bond does not when its primary is plugged in again."""

    def make(stage: Stage) -> int:
        at = stage.lab.plug(PRIMARY)
        isolate(stage.lab, PRIMARY)
        pilot.make_again()
        return at

    return Step(name=RESTORED, label="", to="", planned=True, make=make)


def builders(names: Sequence[str]) -> list[tuple[str, Callable[[Site], Arena]]]:
    """Return who takes part, by subject, and how it is built."""
    found: list[tuple[str, Callable[[Site], Arena]]] = [(BASE, build_base)]
    for name in names:
        if name in OURS:
            found.append((name, partial(build_tapbond, name=name, steps=STEPS)))
            found.append((name, partial(build_probing, name=name)))
        else:
            found.append((name, build_ovs))
        if name == "tapbond":
            found += [(name, partial(build_alone, detector=detector)) for detector in ALONE]
    return found


def measure(
    site: Site,
    names: Sequence[str],
    how: Settings,
    *,
    take: Callable[[Sequence[Trial]], None],
    say: Callable[[str], None],
    skip: Callable[[str], None],
) -> None:
    """Let each event happen to each failover, in turn.

    Args:
        site: where; its stack takes it down.
        names: of the failovers, of tapbond.bench.subjects.
        how: how often, and at which rate.
        take: is given what was found, as it is found.
        say: is told how far it is.
        skip: is told why a failover that is not ours takes part no longer.

    Raises:
        TapbondError: one of ours ended, or could not be built.
    """
    arenas: list[Arena] = []

    def spare(name: str, error: Exception) -> None:
        if name in (*OURS, BASE):
            raise as_ours(f"{FAILOVER}, {name}", error) from error
        skip(f"{FAILOVER}, {name}: {error}")

    for name, build in builders(names):
        try:
            arena = build(site)
            arena.wait_reachable()
            arenas.append(arena)
        except FAILURES as error:
            spare(name, error)
    for repetition in range(how.repetitions):
        for arena in tuple(arenas):
            try:
                take(arena.play(repetition, how.rate))
            except FAILURES as error:
                spare(arena.name, error)
                arenas.remove(arena)
        say(f"failover: repetition {repetition + 1} of {how.repetitions}")
