"""How a comparison is run, checked before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tapbond.errors import TapbondError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How."""

    rounds: int
    """How often each subject is measured with each load."""
    seconds: float
    """How long one measurement lasts."""
    subjects: tuple[str, ...]
    loads: tuple[str, ...]
    repetitions: int
    """How often each event happens in the failover load."""
    rate: int
    """Frames a second in each direction in the failover load."""
    tapbond_options: tuple[str, ...] = ()
    """Further options of ``tapbond run``."""


def names(kind: str, text: str, known: Collection[str], default: Sequence[str]) -> tuple[str, ...]:
    """Return the names in a comma-separated list, in the order of ``known``; ``all`` is all of them.

    Raises:
        TapbondError: one is not known, or there is none.
    """
    if text == "":
        return tuple(default)
    wanted = [name.strip() for name in text.split(",")]
    if wanted == ["all"]:
        return tuple(known)
    for name in wanted:
        if name not in known:
            raise TapbondError(f"{name or 'an empty name'}: no such {kind} (all, {', '.join(known)})")
    return tuple(name for name in known if name in wanted)
