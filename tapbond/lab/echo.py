"""Round trips over UDP between two namespaces, one at a time, timed by a C thread (csrc/lab/echo.c)."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from ._traffic import ffi, lib
from .copying import copied
from .namespace import checked

if TYPE_CHECKING:
    from array import array

    from .namespace import Namespace


class Echo:
    """A client in ``source`` that asks a server in ``sink``, again as soon as it is answered, while open.

    ``size``: payload bytes, 8 to 1472. ``trips_max``: it ends by itself after so many. An answer that does not
    come within about 0.2 s is *lost*. ``dst`` must be an address of ``sink``.
    OSError: the address cannot be bound or reached.
    """

    def __init__(
        self, source: Namespace, sink: Namespace, dst: str, port: int, *, trips_max: int, size: int = 18
    ) -> None:
        with ExitStack() as stack:
            server = stack.enter_context(sink.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind((dst, port))
            client = stack.enter_context(source.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.connect((dst, port))
            config = {
                "client_fd": client.fileno(),
                "server_fd": server.fileno(),
                "size": size,
                "trips_max": trips_max,
            }
            out = ffi.new("struct lab_echo **")
            checked(lib.lab_echo_new(ffi.new("struct lab_echo_config *", config), out), "echo")
            self._echo: Any = out[0]
            stack.callback(self._free)
            checked(lib.lab_echo_start(self._echo), "echo")
            self._stack = stack.pop_all()

    @property
    def trips(self) -> int:
        """Answers so far."""
        return lib.lab_echo_trips(self._echo)

    @property
    def lost(self) -> int:
        """Requests without an answer so far."""
        return lib.lab_echo_lost(self._echo)

    def trips_ns(self) -> array[int]:
        """Return how long each trip took, in ns, in order."""
        return copied("q", lib.lab_echo_trip_ns(self._echo), self.trips)

    def _free(self) -> None:
        lib.lab_echo_free(self._echo)

    def close(self) -> None:
        """Stop both threads."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
