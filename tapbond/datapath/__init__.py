"""How frames get from the TAP to a slave and back."""

from enum import IntEnum
from typing import Protocol

import msgspec

from tapbond.filters import Filters
from tapbond.model import Counters, Decision, Link


class PumpEventKind(IntEnum):
    """What the pump saw; the numbers are those of csrc/tapbond.h."""

    ADOPTED = 1
    PORT_FAULT = 2
    SWITCHED = 3
    FIRST_TX = 4
    FIRST_RX = 5
    DRAINED = 6
    TAP_FAULT = 7


class PumpEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the pump saw."""

    kind: PumpEventKind
    port: int | None
    error: int
    """An errno, or 0."""
    generation: int
    serial: int
    when_ns: int
    """CLOCK_MONOTONIC."""


class PumpListener(Protocol):
    """Who wants to know; called on the event loop."""

    def pump_event(self, event: PumpEvent) -> None:
        """Take note."""


class DataPath(Protocol):
    """Carries the frames as the last applied decision says."""

    def start(self, listener: PumpListener) -> None:
        """Begin to carry frames."""

    def attach(self, link: Link) -> int:
        """Open a port on a link, heard by nobody until a decision names it; return the port."""

    async def detach(self, port: int) -> None:
        """Close a port once no frame of it is under way."""

    def send_direct(self, port: int, direct: bool) -> None:
        """Send past the qdisc, or through it."""

    def hear(self, filters: Filters) -> None:
        """Have every slave, those attached later too, let through what the failover wants to hear."""

    def apply(self, decision: Decision, seen_serial: int) -> int:
        """Put a decision in force; faults up to ``seen_serial`` are settled by it. Return its generation."""

    def tune(self, drain_ns: int, *, tolerant: bool, silent: bool) -> None:
        """Change what it was opened with: see Pump. No frame is lost by it."""

    def set_announcements(self, mac: str, frames: list[bytes]) -> None:
        """Send these whenever the sending slave changes."""

    def announce(self, port: int) -> None:
        """Send those for which set_announcements() has no room by itself on this port."""

    def announce_again(self) -> None:
        """Send all that a change of the sending slave sends once more, on the one that sends."""

    def send(self, port: int, frame: bytes) -> None:
        """Send a frame on a port, once what was published before is in force."""

    def ready(self, ifindex: int) -> bool | None:
        """Ask the device itself: up with a carrier? None: there is no such link."""

    def counters(self, port: int) -> Counters:
        """Return what this port has carried since it was attached."""

    def total(self) -> Counters:
        """Return what all ports ever carried, and what was lost without a port to blame."""

    async def close(self) -> None:
        """Stop and close every port."""
