"""QEMU's machine protocol over a Unix socket (qemu-qmp-ref(7)): one command at a time, events kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tapbond.errors import TapbondError

from .lines import Lines

if TYPE_CHECKING:
    from pathlib import Path


class QmpError(TapbondError):
    """QEMU refused a command."""


class Qmp:
    """A connection to a running QEMU.

    Args:
        path: of the socket.
        timeout: seconds that an answer may take.

    Raises:
        OSError: nobody answers there.
    """

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._events: list[dict[str, Any]] = []
        self._lines = Lines(path)
        try:
            self._receive(timeout)
            self.execute("qmp_capabilities")
        except BaseException:
            self._lines.close()
            raise

    def _receive(self, timeout: float) -> dict[str, Any]:
        try:
            return self._lines.receive(timeout)
        except EOFError as error:
            raise TapbondError("QEMU has closed its QMP socket: it has ended") from error

    def execute(self, command: str, **arguments: Any) -> Any:
        """Execute a command and return its result.

        Raises:
            QmpError: QEMU refused it.
            TimeoutError: no answer.
        """
        self._lines.send({"execute": command, "arguments": arguments})
        while True:
            message = self._receive(self._timeout)
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise QmpError(f"{command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name: str, timeout: float = 30.0, **data: Any) -> dict[str, Any]:
        """Return the next event of a name whose data has these values, among those not yet returned.

        Raises:
            TimeoutError: none came.
        """
        deadline = time.monotonic() + timeout
        while True:
            for at, event in enumerate(self._events):
                found = event.get("data", {})
                if event["event"] == name and all(found.get(key) == value for key, value in data.items()):
                    return self._events.pop(at)
            try:
                self._events.append(self._receive(deadline - time.monotonic()))
            except TimeoutError as error:
                raise TimeoutError(f"no event {name} {data or ''} within {timeout:g} s") from error

    def forget_events(self) -> None:
        """Forget the events that have come so far."""
        self._events.clear()

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._lines.close()
