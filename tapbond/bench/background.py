"""Steady traffic both ways, while something else is measured."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tapbond.lab.traffic import UdpFlow

if TYPE_CHECKING:
    from tapbond.bench.bed import Bed

PORT = 5410
RATE = 10_000
SECONDS_MAX = 120.0


class Background:
    """10 000 frames of 60 bytes a second each way, while it is entered.

    Args:
        bed: between whose hosts.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for number, direction in enumerate(("to far", "from far")):
                source, sink = self._bed.ends(direction)
                flow = UdpFlow(
                    source.namespace,
                    sink.namespace,
                    sink.address,
                    PORT + number,
                    rate=RATE,
                    seconds_max=SECONDS_MAX,
                )
                stack.enter_context(flow).start()
            self._stack = stack.pop_all()

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()
