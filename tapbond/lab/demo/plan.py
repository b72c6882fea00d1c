"""What the demo does, in turn, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapbond.lab.topology import Lab

FAILOVER = "tb0"
STANDBY = "eth0"
PRIMARY = "eth1"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the demo is run."""

    rate: int = 5000
    """Datagrams a second in each direction."""
    seconds: float = 1.9
    """From one event to the next."""
    settle: float = 1.0
    """Undisturbed, before the first."""
    tcp_mbit: int = 50
    """Of the TCP stream, Mbit/s."""
    isolation: str = "auto"
    rx: str = "active"
    user_namespace: bool = False
    """It had to make itself one."""


class Stage(Protocol):
    """Where the events happen."""

    @property
    def lab(self) -> Lab:
        """The links."""

    def switch(self, slave: str | None) -> int:
        """Switch by hand; return the time.monotonic_ns() from right before."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    name: str
    """For data."""
    label: str
    """For people."""
    to: str
    """Who has to be active after it."""
    planned: bool
    """Both slaves work during the switch: nothing may be lost."""
    make: Callable[[Stage], int]
    """Makes it happen; returns the time.monotonic_ns() from right before."""


STEPS = (
    Step(
        name="primary-down",
        label="primary set down",
        to=STANDBY,
        planned=False,
        make=lambda stage: stage.lab.down(PRIMARY),
    ),
    Step(
        name="primary-up",
        label="primary set up",
        to=PRIMARY,
        planned=True,
        make=lambda stage: stage.lab.up(PRIMARY),
    ),
    Step(
        name="carrier-lost",
        label="carrier lost",
        to=STANDBY,
        planned=False,
        make=lambda stage: stage.lab.lose_carrier(PRIMARY),
    ),
    Step(
        name="carrier-back",
        label="carrier back",
        to=PRIMARY,
        planned=True,
        make=lambda stage: stage.lab.restore_carrier(PRIMARY),
    ),
    Step(
        name="unplug",
        label="primary unplugged",
        to=STANDBY,
        planned=False,
        make=lambda stage: stage.lab.unplug(PRIMARY),
    ),
    Step(
        name="re-plug",
        label="primary re-plugged",
        to=PRIMARY,
        planned=True,
        make=lambda stage: stage.lab.plug(PRIMARY),
    ),
    Step(
        name="switch",
        label=f"switch {STANDBY}",
        to=STANDBY,
        planned=True,
        make=lambda stage: stage.switch(STANDBY),
    ),
    Step(
        name="switch-auto",
        label="switch --auto",
        to=PRIMARY,
        planned=True,
        make=lambda stage: stage.switch(None),
    ),
)
