"""Keep the record of each switchover: cause, detector, and what happened when.

Told by the control plane (what it decided) and by the pump (what it did, often before anybody decided). Time is
an argument everywhere.
"""

from collections import deque
from collections.abc import Callable, Collection

import msgspec

from tapbond.model import Counters, Detector, Switchover

RECORD_NS = 1_000_000_000
"""A record is closed so long after its decision, even if no frame came."""
EXPLAIN_NS = 50_000_000
"""A record with a vague cause is not closed before: what it was in truth may yet be told."""
KEPT = 256


class SwitchoverLog:
    """The switchovers of one failover.

    Args:
        failover: its name.
        total: returns its counters.
        done: is called with each record when it is complete.
        vague: causes that explain() may have to correct.
    """

    def __init__(
        self,
        failover: str,
        total: Callable[[], Counters],
        done: Callable[[Switchover], None],
        vague: Collection[str] = (),
    ) -> None:
        self.active: str | None = None
        """Who sends, as far as known."""
        self.records: deque[Switchover] = deque(maxlen=KEPT)
        self.count = 0
        self._failover = failover
        self._total = total
        self._done = done
        self._vague = vague
        self._base = Counters()
        self._open: Switchover | None = None
        self._draining = False

    def switched(
        self, to: str | None, cause: str, detector: Detector, detected_ns: int, decided_ns: int, *, drain: bool
    ) -> bool:
        """Begin a record, unless ``to`` sends already; one that is still open is closed.

        Returns:
            Whether the sender is another one now.
        """
        if to == self.active:
            return False
        self.close()
        self.count += 1
        self._open = Switchover(
            failover=self._failover,
            serial=self.count,
            from_slave=self.active,
            to_slave=to,
            cause=cause,
            detector=detector,
            detected_ns=detected_ns,
            decided_ns=decided_ns,
        )
        self._draining = drain and self.active is not None
        self.active = to
        return True

    def renamed(self, old: str, new: str) -> None:
        """Go on under a slave's new name."""
        if self.active == old:
            self.active = new
        if self._open is not None:
            changes = {side: new for side in ("from_slave", "to_slave") if getattr(self._open, side) == old}
            self._open = msgspec.structs.replace(self._open, **changes)

    def seen_earlier(self, slave: str, detector: Detector, when_ns: int) -> None:
        """Correct who was first to see that ``slave`` failed."""
        if self._open and self._open.from_slave == slave and when_ns < self._open.detected_ns:
            self._open = msgspec.structs.replace(self._open, detector=detector, detected_ns=when_ns)

    def explain(self, slave: str, instead_of: Collection[str], cause: str) -> None:
        """Correct why ``slave`` failed, if it was thought to be one of ``instead_of``."""
        if self._open and self._open.from_slave == slave and self._open.cause in instead_of:
            self._open = msgspec.structs.replace(self._open, cause=cause)

    def first_tx(self, slave: str, when_ns: int) -> None:
        """Note the first frame sent on the new slave."""
        if self._open and self._open.to_slave == slave and self._open.first_tx_ns is None:
            self._open = msgspec.structs.replace(self._open, first_tx_ns=when_ns)

    def first_rx(self, slave: str, when_ns: int) -> None:
        """Note the first frame received on the new slave."""
        if self._open and self._open.to_slave == slave and self._open.first_rx_ns is None:
            self._open = msgspec.structs.replace(self._open, first_rx_ns=when_ns)

    def drained(self) -> None:
        """Note that the former slave has fallen silent."""
        self._draining = False

    def settle(self, now_ns: int) -> int | None:
        """Close the open record if it is complete or too old.

        Returns:
            When to ask again (CLOCK_MONOTONIC in ns), None: nothing is open.
        """
        if self._open is None:
            return None
        seen = self._open.first_tx_ns is not None and self._open.first_rx_ns is not None
        complete = seen and not self._draining
        wait_ns = RECORD_NS if not complete else EXPLAIN_NS if self._open.cause in self._vague else 0
        if now_ns >= self._open.decided_ns + wait_ns:
            self.close()
            return None
        return self._open.decided_ns + wait_ns

    def close(self) -> None:
        """Complete the open record, if there is one, with what the counters say."""
        if self._open is None:
            return
        total = self._total()
        record = msgspec.structs.replace(
            self._open,
            resent=total.tx_resent - self._base.tx_resent,
            dropped=total.tx_dropped - self._base.tx_dropped,
            duplicates=total.rx_duplicate - self._base.rx_duplicate,
        )
        self._base = total
        self._open = None
        self.records.append(record)
        self._done(record)
