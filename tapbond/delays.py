"""When a link that came up is to be trusted, and one that went is to be given up: pure, time is an argument.

``updelay`` and ``downdelay`` are those of Documentation/networking/bonding.rst. The hold-down is for a link that
flaps: each loss makes its next return wait twice as long.
"""

HOLD_DOWN_MAX_NS = 300 * 10**9
HOLD_DOWN_MEMORY_NS = 60 * 10**9
"""A link that was not lost for so long, and for as long as it was last held, starts anew."""


class LinkDelays:
    """The delays of one slave. All times are CLOCK_MONOTONIC in ns.

    Args:
        updelay_ns: how long its link must have been up before it is preferred to one that is in use.
        downdelay_ns: how long its link may be lost before another slave takes over.
        hold_down_ns: what the first loss adds to the updelay; each further one doubles it, up to
            HOLD_DOWN_MAX_NS. 0: nothing.
    """

    def __init__(self, updelay_ns: int = 0, downdelay_ns: int = 0, hold_down_ns: int = 0) -> None:
        self.settled_ns = 0
        """Until then others are preferred."""
        self.tolerated_until_ns = 0
        """Until then its loss does not count."""
        self.losses = 0
        """How often its link was lost (bonding: link_failure_count)."""
        self._updelay_ns = updelay_ns
        self._downdelay_ns = downdelay_ns
        self._hold_down_ns = hold_down_ns
        self._held_ns = 0
        self._lost_ns: int | None = None
        self._flapped_ns: int | None = None

    def change(self, updelay_ns: int, downdelay_ns: int, hold_down_ns: int) -> None:
        """Have other delays from the next change of the link on."""
        self._updelay_ns, self._downdelay_ns, self._hold_down_ns = updelay_ns, downdelay_ns, hold_down_ns

    def lost(self, when_ns: int) -> None:
        """Note that the link was lost."""
        self.losses += 1
        self._lost_ns = when_ns
        self.tolerated_until_ns = when_ns + self._downdelay_ns if self._downdelay_ns else 0

    def came_up(self, when_ns: int) -> None:
        """Note that the link is up again. One that comes back while its loss is tolerated was never gone."""
        tolerated, self.tolerated_until_ns = when_ns < self.tolerated_until_ns, 0
        if tolerated:
            return
        if self._hold_down_ns and self._lost_ns is not None:
            self._hold(when_ns)
        self.settled_ns = when_ns + self._updelay_ns + self._held_ns

    def give_up(self) -> None:
        """Tolerate its loss no longer: it has gone for good."""
        self.tolerated_until_ns = 0

    def settle(self) -> None:
        """Forget the updelay: at the start nothing is in use that could be preferred to it."""
        self.settled_ns = 0

    def _hold(self, when_ns: int) -> None:
        quiet = self._flapped_ns is None or when_ns - self._flapped_ns > HOLD_DOWN_MEMORY_NS + self._held_ns
        self._held_ns = self._hold_down_ns if quiet else min(2 * self._held_ns, HOLD_DOWN_MAX_NS)
        self._flapped_ns = when_ns
