"""The selection as the pump takes it (struct tb_selection in csrc/tapbond.h), while it is written."""

from typing import Any

from tapbond._core import ffi, lib
from tapbond.model import Decision


class Selection:
    """Who sends, who receives and what is announced; nobody and nothing at first.

    Args:
        drain_ns: how long a former receiver still delivers unicast.
        tolerant: a sender that is only down goes on being the sender.
        silent: announce nothing when the sender changes.
    """

    def __init__(self, drain_ns: int, *, tolerant: bool, silent: bool) -> None:
        self.raw: Any = ffi.new("struct tb_selection *")
        """What tb_pump_publish() copies."""
        self._drains = False
        """Whether the decision in force asks for a drain."""
        self.tune(drain_ns, tolerant=tolerant, silent=silent)
        for place in range(lib.TB_PORTS_MAX):
            self.clear(place)

    def tune(self, drain_ns: int, *, tolerant: bool, silent: bool) -> None:
        """Change what it was made with."""
        self._drain_ns = drain_ns
        self.raw.drain_ns = drain_ns if self._drains else 0
        self.raw.tolerant, self.raw.announce_silent = tolerant, silent

    def put(self, place: int, fd: int, number: int) -> None:
        """Put a slave in a place.

        Args:
            place: below TB_PORTS_MAX.
            fd: the first queue's socket.
            number: tells it from every slave that was there before.
        """
        self.raw.port[place].fd = fd
        self.raw.port[place].id = number

    def clear(self, place: int) -> None:
        """Have nobody in a place."""
        self.put(place, -1, 0)

    def decide(self, decision: Decision, seen_serial: int) -> None:
        """Write a decision down; faults up to ``seen_serial`` are settled by it."""
        raw = self.raw
        raw.order_len = len(decision.order)
        for place, port in enumerate(decision.order):
            raw.order[place] = port
        raw.receive = sum(1 << port for port in decision.receive)
        raw.receive_sender = decision.receive_sender
        self._drains = decision.drain
        raw.drain_ns = self._drain_ns if self._drains else 0
        raw.seen_serial = seen_serial

    def announce(self, mac: str, frames: list[bytes]) -> list[bytes]:
        """Write down what is announced when the sender changes; return what there is no room for."""
        first = [frame for frame in frames if len(frame) <= lib.TB_ANNOUNCE_LEN][: lib.TB_ANNOUNCE_MAX]
        ffi.memmove(self.raw.mac, bytes.fromhex(mac.replace(":", "")), 6)
        self.raw.announce_count = len(first)
        for place, frame in enumerate(first):
            self.raw.announce[place].len = len(frame)
            ffi.memmove(self.raw.announce[place].data, frame, len(frame))
        sent_by_pump = set(first)
        return [frame for frame in frames if frame not in sent_by_pump]

    def announce_again(self) -> None:
        """Ask for one more round."""
        self.raw.announce_round = (self.raw.announce_round + 1) % (1 << 32)
