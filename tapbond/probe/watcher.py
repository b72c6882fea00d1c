"""What every kind of probe can do: ask for one address, and know the answer."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Match(NamedTuple):
    """A number in a frame that an answer has: so many bytes (1 or 2), at this offset, with this value."""

    size: int
    offset: int
    value: int


class Answer(NamedTuple):
    """Who has answered whose probe."""

    address: bytes
    """Of the target, packed."""
    mac: bytes
    """Of the prober."""


class Watcher(Protocol):
    """One kind of probe; it has no state."""

    name: str
    pattern: tuple[Match, ...]
    """What the kernel lets through: all that may be answers, and little else."""

    def probe(self, mac: bytes, address: bytes) -> bytes:
        """Return the Ethernet frame, without FCS, that asks for ``address`` from ``mac``."""

    def answer(self, frame: bytes) -> Answer | None:
        """Return what a frame answers; None: it is no answer, or not a valid one."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address that is asked for."""

    text: str
    """As it was given."""
    address: bytes
    """Packed."""
    watcher: Watcher
