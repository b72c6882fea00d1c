"""A TCP connection that carries numbers both ways, in the guest as a program, on the host as a thread.

Each side sends 0, 1, 2, … at a rate and checks that the other's numbers come in order (tcp(7)); it stands alone
like numbered.py. As a program: ``stream.py REMOTE PORT RATE``, until SIGTERM; it writes its record as JSON.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

_NUMBER = struct.Struct("!I")
_NS = 1_000_000_000


class Stream(threading.Thread):
    """Sends and checks numbers until it is stopped.

    Args:
        sock: connected.
        rate: numbers a second.
    """

    def __init__(self, sock: socket.socket, rate: float) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
        self._interval_ns = int(_NS / rate)
        self._ending = threading.Event()
        self._left = b""
        self._unsent = b""
        self.sent = 0
        self.arrived_ns: list[int] = []
        """By number: when it arrived."""
        self.error = ""
        """What ended the connection, or was wrong with what it carried."""

    def run(self) -> None:
        """Send and check."""
        due = time.monotonic_ns()
        try:
            while not self._ending.is_set():
                now = time.monotonic_ns()
                if now >= due:
                    self._send()
                    due += self._interval_ns
                    continue
                readable, _, _ = select.select([self._sock], [], [], (due - now) / _NS)
                if readable:
                    self._receive()
        except (OSError, ValueError) as error:
            self.error = str(error)

    def _send(self) -> None:
        self._unsent += _NUMBER.pack(self.sent)
        self.sent += 1
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return

    def _receive(self) -> None:
        data = self._left + self._sock.recv(65536)
        whole = len(data) // _NUMBER.size * _NUMBER.size
        if not data:
            raise ValueError("the other side has closed the connection")
        now = time.monotonic_ns()
        for (number,) in _NUMBER.iter_unpack(data[:whole]):
            if number != len(self.arrived_ns):
                raise ValueError(f"{number} came where {len(self.arrived_ns)} was due")
            self.arrived_ns.append(now)
        self._left = data[whole:]

    def end(self) -> None:
        """Stop."""
        self._ending.set()
        self.join()
        self._sock.close()

    def record(self) -> dict[str, Any]:
        """Return what happened, as JSON takes it."""
        return {"sent": self.sent, "arrived": len(self.arrived_ns), "error": self.error}


def main(remote: str, port: str, rate: str) -> None:
    """Be the program."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stream = Stream(socket.create_connection((remote, int(port)), 20.0), float(rate))
    stream.start()
    stop.wait()
    stream.end()
    json.dump(stream.record(), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
