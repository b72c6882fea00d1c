"""Numbered datagrams both ways over one UDP socket, in the guest as a program, on the host as a thread.

It stands alone (standard library only) and is written for a guest in which Python takes its time: some
hundred datagrams a second. Each side's times are its own clock's (CLOCK_MONOTONIC); silences are measured where
datagrams arrive, so the clocks need not agree.

As a program: ``numbered.py LOCAL REMOTE PORT RATE RUN [SECONDS]``, until SIGTERM or for so long; it writes
``ready``, and at the end its record as JSON.
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
from collections import Counter
from typing import Any

_DATAGRAM = struct.Struct("!II")
_NS = 1_000_000_000
_DRAIN_S = 0.1


class Numbered(threading.Thread):
    """Sends and receives until it is stopped.

    Args:
        sock: bound to the local and connected to the remote address.
        rate: datagrams a second; 0: only receive.
        run: a number that each datagram carries beside its own.
    """

    def __init__(self, sock: socket.socket, rate: float, run: int) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._sock.setblocking(False)
        self._interval_ns = int(_NS / rate) if rate else 0
        self._run = run
        self._ending = threading.Event()
        self.sent_ns: list[int] = []
        """By number: when it was sent, or would have been."""
        self.errors: Counter[str] = Counter()
        """Sends that failed, by the error's name."""
        self.received: list[tuple[int, int, int]] = []
        """In order of arrival: the run, the number, when."""

    def run(self) -> None:
        """Send and receive."""
        due = time.monotonic_ns()
        while not self._ending.is_set():
            now = time.monotonic_ns()
            if self._interval_ns and now >= due:
                self._send(now)
                due += self._interval_ns
                continue
            self._receive((due - now) / _NS if self._interval_ns else 0.05)
        end = time.monotonic() + _DRAIN_S
        while (left := end - time.monotonic()) > 0:
            self._receive(left)

    def _send(self, now: int) -> None:
        number = len(self.sent_ns)
        self.sent_ns.append(now)
        try:
            self._sock.send(_DATAGRAM.pack(self._run, number))
        except OSError as error:
            self.errors[error.strerror or str(error)] += 1

    def _receive(self, timeout: float) -> None:
        readable, _, _ = select.select([self._sock], [], [], min(timeout, 0.05))
        if not readable:
            return
        try:
            data = self._sock.recv(64)
        except OSError:
            return  # an ICMP error that came back
        if len(data) == _DATAGRAM.size:
            run, number = _DATAGRAM.unpack(data)
            self.received.append((run, number, time.monotonic_ns()))

    def end(self) -> None:
        """Stop sending, take what is still under way, stop."""
        self._ending.set()
        self.join()

    def record(self) -> dict[str, Any]:
        """Return what happened, as JSON takes it."""
        return {"sent_ns": self.sent_ns, "errors": self.errors, "received": self.received}


def open_socket(local: str, remote: str, port: int) -> socket.socket:
    """Return the socket of one side; OSError: the address is not there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((local, port))
    sock.connect((remote, port))
    return sock


def main(local: str, remote: str, port: str, rate: str, run: str, seconds: str = "600") -> None:
    """Be the program."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    flow = Numbered(open_socket(local, remote, int(port)), float(rate), int(run))
    flow.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stop.wait(float(seconds))
    flow.end()
    json.dump(flow.record(), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
