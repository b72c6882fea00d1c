"""Lines of JSON over a Unix socket; a time-out loses nothing, and the next call goes on."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 16


class Lines:
    """A connection that carries one JSON value a line.

    Args:
        path: of the socket.

    Raises:
        OSError: nobody answers there.
    """

    def __init__(self, path: Path) -> None:
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise

    def send(self, value: dict[str, Any]) -> None:
        """Send a value."""
        self._socket.sendall(json.dumps(value).encode() + b"\n")

    def receive(self, timeout: float) -> dict[str, Any]:
        """Return the next value.

        Raises:
            TimeoutError: it did not come within so many seconds.
            EOFError: the other side has closed the connection.
        """
        self._socket.settimeout(max(timeout, 0.001))
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            data = self._socket.recv(_CHUNK)
            if not data:
                raise EOFError
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        value: dict[str, Any] = json.loads(line)
        return value

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
