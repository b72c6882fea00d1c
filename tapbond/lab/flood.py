"""UDP from one namespace to another as fast as it goes, sent and counted by C threads (csrc/lab/flood.c)."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ._traffic import ffi, lib
from .namespace import checked

if TYPE_CHECKING:
    from .namespace import Namespace


class FloodState(NamedTuple):
    """What a flood has come to so far, since its start."""

    sent: int
    """Datagrams that the sender's socket took."""
    refused: int
    """Datagrams that it did not take."""
    received: int
    """Payload bytes that the sink took."""
    overflow: int
    """Datagrams that arrived and found the sink's buffer full."""
    tx_cpu_ns: int
    """Processor time of the sending thread."""
    rx_cpu_ns: int
    """Processor time of the sink's thread."""
    at_ns: int
    """When this was read (CLOCK_MONOTONIC)."""


class Flood:
    """Datagrams of one size, back to back, while it is open.

    ``size``: payload bytes. ``segment``: how many datagrams go down in one send (UDP_SEGMENT, udp(7)), the sink
    then takes them together as well (UDP_GRO); 0: each by itself, 64 a system call.
    ``dst`` must be an address of ``sink``.
    OSError: the address cannot be bound or reached, or the kernel has no UDP_SEGMENT; ValueError: size.
    """

    def __init__(
        self, source: Namespace, sink: Namespace, dst: str, port: int, *, size: int, segment: int = 0
    ) -> None:
        with ExitStack() as stack:
            rx = stack.enter_context(sink.socket(socket.AF_INET, socket.SOCK_DGRAM))
            rx.bind((dst, port))
            tx = stack.enter_context(source.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tx.connect((dst, port))
            config = {"tx_fd": tx.fileno(), "rx_fd": rx.fileno(), "size": size, "segment": segment}
            out = ffi.new("struct lab_flood **")
            checked(lib.lab_flood_new(ffi.new("struct lab_flood_config *", config), out), "flood")
            self._flood: Any = out[0]
            self._state: Any = ffi.new("struct lab_flood_state *")
            stack.callback(self._free)
            checked(lib.lab_flood_start(self._flood), "flood")
            self._stack = stack.pop_all()

    def state(self) -> FloodState:
        """Return what it has come to; OSError: the sender's socket failed."""
        lib.lab_flood_state(self._flood, self._state)
        if error := int(self._state.tx_error):
            raise OSError(-error, f"flood: {os.strerror(-error)}")
        return FloodState(*(int(getattr(self._state, name)) for name in FloodState._fields))

    def _free(self) -> None:
        lib.lab_flood_free(self._flood)

    def close(self) -> None:
        """Stop both threads."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
