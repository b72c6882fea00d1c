"""Whose frames the filters deliver, and whose unicast for a while longer."""

import asyncio
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from tapbond.datapath.wiring import Wiring
from tapbond.errors import TapbondError
from tapbond.model import Decision, Link

NS_PER_S = 1_000_000_000


class Receiver:
    """One port at a time; none at first.

    Args:
        wiring: open whenever this is used.
        links: by port, a live collection.
        drain_ns: how long a former receiver still delivers unicast.
        drained: is told of each port that has stopped, and whether it was the last one.
        hinder: is told that it is tc, and what that refused once a drain was over.
    """

    def __init__(
        self,
        wiring: Wiring,
        links: Mapping[int, Link],
        drain_ns: int,
        drained: Callable[[int, bool], None],
        hinder: Callable[[str, str], None],
    ) -> None:
        self._wiring = wiring
        self._links = links
        self.drain_ns = drain_ns
        self._drained = drained
        self._hinder = hinder
        self._port: int | None = None
        self._drains: dict[int, asyncio.Handle] = {}

    def turn_to(self, port: int | None, *, drain: bool) -> None:
        """Receive on another port from the next frame on; TapbondError: the kernel refuses.

        Args:
            port: None: on none.
            drain: unicast still under way to the former one is delivered.
        """
        if port == self._port:
            return
        former, self._port = self._port, port
        loop = asyncio.get_running_loop()
        if former is not None and drain and self.drain_ns:
            self._wiring.drain(self._links[former].ifindex)
            self._drains[former] = loop.call_later(self.drain_ns / NS_PER_S, self._end, former)
        elif former is not None:
            self._drains[former] = loop.call_soon(self._end, former)
        self._wiring.receive(0 if port is None else self._links[port].ifindex)
        if port is not None:
            self._stop(port)

    def leave(self, port: int) -> None:
        """Receive on this one no more; TapbondError: the kernel refuses."""
        self._stop(port)
        if self._port == port:
            self._port = None

    def forget(self) -> None:
        """Begin anew: the filters are gone, or about to go."""
        for timer in self._drains.values():
            timer.cancel()
        self._drains.clear()
        self._port = None

    def _end(self, port: int) -> None:
        try:
            self._stop(port)
        except TapbondError as error:
            self._hinder("tc", str(error))
            return
        self._drained(port, not self._drains)

    def _stop(self, port: int) -> None:
        if (timer := self._drains.pop(port, None)) is not None:
            timer.cancel()
            self._wiring.end_drain(self._links[port].ifindex)


def receiver_of(decision: Decision) -> int | None:
    """Return whose frames are delivered: one slave's, as every mode but rx=any has it."""
    if decision.receive_sender:
        return decision.active
    return next(iter(decision.receive), None)


def silent(decision: Decision) -> Decision:
    """Return a decision by which the pump delivers nothing."""
    return replace(decision, receive=frozenset(), receive_sender=False, drain=False)
