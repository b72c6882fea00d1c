"""Count switchovers by where from, where to and why, with labels of a bounded number; pure."""

from bisect import bisect_left
from itertools import accumulate

from tapbond.model import Switchover
from tapbond.slave import CARRIER_LOST, PROBES_LOST, SET_DOWN, UNPLUGGED

NONE = "none"
OTHER = "other"
SERIES_MAX = 256
"""So many combinations of slaves and reasons are told apart; links that are plugged in may have ever new names."""

REASONS = {
    UNPLUGGED: "unplugged",
    SET_DOWN: "set_down",
    CARRIER_LOST: "carrier_lost",
    PROBES_LOST: "probes_unanswered",
    "send errors": "send_errors",
    "send works again": "send_works_again",
    "switched by hand": "by_hand",
    "rank changed": "rank_changed",
    "removed": "removed",
    "no slave ready": "no_slave_ready",
    "first slave ready": "first_slave_ready",
    "primary ready": "better_slave_ready",
    "standby ready": "better_slave_ready",
    "backup ready": "better_slave_ready",
    "failover destroyed": "destroyed",
}
SEND_FAILED = "send failed"
"""The rest of this cause is an errno: tapbond events has it."""

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

Key = tuple[str, str, str]
"""From, to, reason."""


def reason(cause: str) -> str:
    """Return the label of a cause: one of a fixed set."""
    return "send_errors" if cause.startswith(SEND_FAILED) else REASONS.get(cause, OTHER)


class SwitchoverCounts:
    """Counters of the switchovers of one failover, and a histogram of how long they took.

    That is from the detection until the data path has the decision; when the next frame comes is up to the host.
    """

    def __init__(self) -> None:
        self.by_key: dict[Key, int] = {}
        self.seconds = 0.0
        """Sum of what they took."""
        self._in_bucket = [0] * (len(BUCKETS_S) + 1)

    def add(self, record: Switchover) -> None:
        """Count one."""
        key = (record.from_slave or NONE, record.to_slave or NONE, reason(record.cause))
        if key not in self.by_key and len(self.by_key) >= SERIES_MAX:
            key = (OTHER, OTHER, key[2])
        self.by_key[key] = self.by_key.get(key, 0) + 1
        took_s = max(0, record.decided_ns - record.detected_ns) / 1e9
        self.seconds += took_s
        self._in_bucket[bisect_left(BUCKETS_S, took_s)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many took up to so many seconds, the last without a limit."""
        limits = (*map(str, BUCKETS_S), "+Inf")
        return list(zip(limits, map(float, accumulate(self._in_bucket)), strict=True))
