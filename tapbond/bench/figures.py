"""Statistics of a few measured values: pure."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spread(msgspec.Struct, frozen=True):
    """Where values lie."""

    low: float
    median: float
    high: float


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below or at which ``share`` of them lie: the nearest rank, so one that was measured.

    Args:
        ordered: ascending, not empty.
        share: 0 to 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Return the extremes and the median of values, which are not empty."""
    return Spread(min(values), statistics.median(values), max(values))


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread | None:
    """Return values over those of the same rounds of another subject: what drifted is in both.

    None: there is no round with both, or the other one's are 0.
    """
    pairs = [value / other for value, other in zip(values, base, strict=False) if other]
    return spread(pairs) if pairs else None


def differences(values: Sequence[float], base: Sequence[float]) -> Spread | None:
    """Return values less those of the same rounds of another subject; None: no round has both."""
    pairs = [value - other for value, other in zip(values, base, strict=False)]
    return spread(pairs) if pairs else None
