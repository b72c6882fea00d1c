"""The other end of the control socket: ask a running failover."""

import socket
from collections.abc import Iterator
from typing import Any, Self

import msgspec

from tapbond.errors import ControlError
from tapbond.model import Event, Switchover
from tapbond.rundir import RunDir
from tapbond.service.protocol import END, INTERFACE, Reply, Request, encode
from tapbond.state import Status

ANSWER_DEADLINE_S = 10.0


class Client:
    """A connection to a failover that runs in this network namespace.

    Args:
        failover: its name.
        run_dir: where its socket is.

    Raises:
        ControlError: none of this name runs here.
    """

    def __init__(self, failover: str, run_dir: RunDir) -> None:
        self._failover = failover
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(ANSWER_DEADLINE_S)
        try:
            self._socket.connect(str(run_dir.socket(failover)))
        except PermissionError as error:
            raise ControlError(f"{failover}: belongs to another user (be that user, or root)") from error
        except OSError as error:
            running = ", ".join(run_dir.failovers()) or "none"
            raise ControlError(
                f"{failover}: no such failover runs in this network namespace (running: {running})"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, **parameters: object) -> Any:
        """Ask and return the answer.

        Raises:
            ControlError: the failover said no, or has gone.
        """
        self._send(Request(method=f"{INTERFACE}.{method}", parameters=parameters))
        return msgspec.json.decode(self._receive().parameters)

    def status(self) -> Status:
        """Return the failover's status."""
        self._send(Request(method=f"{INTERFACE}.GetStatus"))
        return msgspec.json.decode(self._receive().parameters, type=Status)

    def switchovers(self) -> tuple[Switchover, ...]:
        """Return the records of the last switchovers, oldest first."""
        self._send(Request(method=f"{INTERFACE}.GetSwitchovers"))
        return msgspec.json.decode(self._receive().parameters, type=_Recorded).switchovers

    def events(self) -> Iterator[Event]:
        """Return what happens from now on, until the failover ends."""
        self._send(Request(method=f"{INTERFACE}.Monitor", more=True))
        self._receive()
        self._socket.settimeout(None)
        return self._events()

    def _events(self) -> Iterator[Event]:
        while (reply := self._receive()).continues:
            yield msgspec.json.decode(reply.parameters, type=_Told).event

    def wait_end(self) -> None:
        """Wait until the failover has closed the connection.

        Raises:
            ControlError: it does not end.
        """
        try:
            while self._socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            return
        except OSError as error:
            raise ControlError(f"{self._failover}: does not end: {error}") from error

    def _send(self, request: Request) -> None:
        try:
            self._socket.sendall(encode(request))
        except OSError as error:
            raise ControlError(f"{self._failover}: {error.strerror}") from error

    def _receive(self) -> Reply:
        try:
            while END not in self._received:
                chunk = self._socket.recv(1 << 16)
                if not chunk:
                    raise ControlError(f"{self._failover}: has ended")
                self._received += chunk
        except OSError as error:
            raise ControlError(f"{self._failover}: {error}") from error
        message, _, self._received = self._received.partition(END)
        reply = msgspec.json.decode(message, type=Reply)
        if reply.error is not None:
            raise ControlError(msgspec.json.decode(reply.parameters)["message"])
        return reply


class _Recorded(msgspec.Struct):
    switchovers: tuple[Switchover, ...]


class _Told(msgspec.Struct):
    event: Event
