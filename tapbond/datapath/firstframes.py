"""When the first frames pass a new slave that the kernel serves: nobody tells, but its counters grow."""

import asyncio
from collections.abc import Callable

from tapbond.datapath import PumpEventKind
from tapbond.model import Counters

LOOK_S = 0.001
"""How often the counters are read until both directions have been seen: what is told is up to this late."""
LOOKS = 1000

FIELDS = {PumpEventKind.FIRST_TX: "tx_frames", PumpEventKind.FIRST_RX: "rx_frames"}


class FirstFrames:
    """Looks after one slave at a time.

    Args:
        read: returns what a port has carried, None: it is gone.
        tell: is called with FIRST_TX or FIRST_RX, the port and the generation.
    """

    def __init__(
        self, read: Callable[[int], Counters | None], tell: Callable[[PumpEventKind, int, int], None]
    ) -> None:
        self._read = read
        self._tell = tell
        self._looking: asyncio.Handle | None = None

    def expect(self, port: int, generation: int, before: Counters) -> None:
        """Begin with a port that had carried ``before``; forget the one before it."""
        self.forget()
        # Not yet: who asked for the switch has yet to write down that there was one.
        self._looking = asyncio.get_running_loop().call_soon(
            self._look, port, generation, before, set(FIELDS), LOOKS
        )

    def forget(self) -> None:
        """Look no more; again is harmless."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self, port: int, generation: int, before: Counters, missing: set[PumpEventKind], left: int) -> None:
        now = self._read(port)
        if now is None:
            return
        for kind in sorted(missing):
            if getattr(now, FIELDS[kind]) > getattr(before, FIELDS[kind]):
                missing.discard(kind)
                self._tell(kind, port, generation)
        if missing and left > 1:
            again = (port, generation, before, missing, left - 1)
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look, *again)
