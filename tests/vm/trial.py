"""One subject on the bench, and what a scenario may ask of it."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rig import MAC, Rig, is_announcement
from subjects import Subject

from tapbond.lab import wait_until

if TYPE_CHECKING:
    from traffic import Figures

SETTLE_S = 6.0
"""How long an outcome is waited for before another one is believed."""


class Trial:
    """A subject, begun, with both NICs plugged and up.

    Args:
        rig: the bench.
        subject: who is tried.
    """

    def __init__(self, rig: Rig, subject: Subject) -> None:
        self.rig, self.subject = rig, subject
        self.figures: dict[str, Figures] = {}
        """What events cost, by their names."""
        self.quiet = {
            role: {flag: (rig.nic(role) or {}).get(flag, 0) for flag in ("promiscuity", "allmulti")}
            for role in ("standby", "primary")
        }
        """How often the slaves had been asked to hear more before the scenario began."""

    @property
    def master(self) -> str:
        name = self.subject.master(self.rig)
        assert name, f"{self.subject.name} has no master"
        return name

    # what is seen

    def way(self, tx: str | None = None, rx: bool = True, timeout: float = SETTLE_S) -> str:
        """Say which way frames go, once it is as expected or at the deadline."""
        if self.subject.master(self.rig) is None:
            return "the master is gone"
        paths = self.rig.settle(self.master, tx, rx, timeout)
        sends = "sends nothing" if paths.tx == "none" else f"sends by {paths.tx}"
        return f"{sends}, {'receives' if paths.rx else '**receives nothing**'}"

    def carrier(self, on: bool) -> str:
        """Say the master's carrier, once it is as expected or at the deadline."""

        def shown() -> bool:
            link = self.rig.find(self.master)
            return bool(link) and "LOWER_UP" in link["flags"]

        self.eventually(lambda: shown() is on)
        return f"carrier {'on' if shown() else 'off'}"

    def is_slave(self, role: str) -> bool:
        """Return whether the guest's link of a role has a master."""
        link = self.rig.nic(role)
        return bool(link and link.get("master"))

    def slave_up(self, role: str) -> bool:
        link = self.rig.nic(role)
        return bool(link and "UP" in link["flags"])

    def refused(self, *argv: str) -> bool:
        """Run ``ip`` with these arguments in the guest; return whether it was refused."""
        try:
            self.rig.ip(*argv)
        except subprocess.CalledProcessError:
            return True
        return False

    def eventually(self, condition: Callable[[], bool], timeout: float = SETTLE_S) -> bool:
        """Return whether something comes true before the deadline."""
        with contextlib.suppress(TimeoutError):
            return wait_until(condition, timeout=timeout)
        return False

    def stay_up(self, *roles: str) -> bool:
        """Return whether slaves are still up when they have had time to go down."""
        return not self.eventually(lambda: not any(self.slave_up(role) for role in roles), timeout=3.0)

    # what is done

    def event(self, name: str, act: Callable[[], object], after: int = 100) -> None:
        """Do something under traffic, and keep what it cost."""
        with self.rig.traffic(self.master) as traffic:
            act()
            traffic.go_on(after)
        self.figures[name] = traffic.figures

    def joins(self, role: str, within_s: float | None = None) -> str:
        """Say how a NIC that was plugged in becomes a slave; by hand when it does not by itself."""
        if self.eventually(lambda: self.is_slave(role), within_s or self.subject.joins_within_s):
            return "joins by itself"
        self.subject.enslave(self.rig, role)
        return "joins by script" if self.is_slave(role) else "does not join"

    def joins_or_not(self, role: str) -> str:
        """Say whether a NIC that should be refused becomes a slave, by itself or by hand."""
        try:
            return self.joins(role, 3.0)
        except subprocess.CalledProcessError:
            return "refused, left free"

    def announced(self, role: str, since: dict[str, int]) -> str:
        """Say whether an announcement was seen on a wire."""
        seen = self.eventually(lambda: self.rig.seen(role, since, is_announcement), timeout=2.0)
        return "announced" if seen else "not announced"


def baseline(rig: Rig, subject: Subject, fresh: bool) -> None:
    """Have a subject begun on both NICs, sending by the primary; ``fresh``: with new NICs in any case."""
    if rig.current is not subject or fresh:
        rebuild(rig, subject)
    else:
        with contextlib.suppress(TimeoutError, AssertionError):
            _restore(rig)
        master = subject.master(rig)
        paths = rig.settle(master, "primary", timeout=2.0) if master else None
        if not paths or paths.tx != "primary" or not paths.rx:
            rebuild(rig, subject)


def _restore(rig: Rig) -> None:
    if "third" in rig.plugged:
        rig.unplug("third")
    for role in sorted(rig.plugged):
        rig.link(role, on=True)


def rebuild(rig: Rig, subject: Subject) -> None:
    """Begin a subject with NICs of its own."""
    if rig.current:
        rig.current.end(rig)
    rig.current = subject
    as_it_wants = rig.plugged == {"standby", "primary"} and rig.failover is subject.standby["failover"] and rig.new
    if not as_it_wants:
        for role in sorted(rig.plugged):
            rig.unplug(role)
        rig.guest.call("reload", name="e1000e")  # it counts those that come
        rig.failover = subject.standby["failover"]
        rig.plug("standby", MAC, **subject.standby)
        rig.plug("primary")
    rig.new = False
    subject.begin(rig)
    paths = rig.settle(str(subject.master(rig)), "primary", timeout=20.0)
    assert (paths.tx, paths.rx) == ("primary", True), f"{subject.name} did not begin: {paths}"


@contextlib.contextmanager
def trial(rig: Rig, subject: Subject) -> Iterator[Trial]:
    """Try a subject; one whose trial failed begins anew the next time."""
    baseline(rig, subject, rig.dirty)
    rig.dirty = True
    yield Trial(rig, subject)
    rig.dirty = False
