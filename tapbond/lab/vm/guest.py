"""The host's end of the agent in a guest."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

from tapbond.errors import TapbondError

from .lines import Lines

if TYPE_CHECKING:
    from pathlib import Path


class GuestError(TapbondError):
    """The agent could not do what it was asked."""


class Guest:
    """Requests to the agent; not for use from several threads at once.

    Args:
        path: of the Unix socket behind the virtio-serial port.
        timeout: seconds that the guest may take to boot.

    Raises:
        TimeoutError: the agent did not say hello.
    """

    def __init__(self, path: Path, timeout: float = 120.0) -> None:
        self._next = 1
        self._lines = Lines(path)
        try:
            self._answer(0, timeout)
        except TimeoutError as error:
            self._lines.close()
            raise TimeoutError(f"the guest's agent said nothing within {timeout:g} s") from error
        except BaseException:
            self._lines.close()
            raise

    def reconnect(self, path: Path) -> None:
        """Go on with the same guest behind another socket, when it has moved."""
        self._lines.close()
        self._lines = Lines(path)

    def _answer(self, number: int, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            try:
                answer = self._lines.receive(deadline - time.monotonic())
            except EOFError as error:
                raise GuestError("the guest has gone") from error
            if answer["id"] != number:
                continue  # of a request that was given up
            if "error" in answer:
                raise GuestError(answer["error"])
            return answer["result"]

    def call(self, op: str, within_s: float = 60.0, **parameters: Any) -> Any:
        """Ask for an operation of the agent and return its result.

        Raises:
            GuestError: it failed.
            TimeoutError: no answer.
        """
        number = self._next
        self._next += 1
        self._lines.send({"id": number, "op": op, **parameters})
        return self._answer(number, within_s)

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        """Run a program in the guest and return what it writes.

        Raises:
            CalledProcessError: it failed.
        """
        done = self.call("run", timeout + 30.0, argv=argv, timeout=timeout)
        if done["status"]:
            raise subprocess.CalledProcessError(done["status"], argv, done["out"], done["err"])
        return str(done["out"])

    def ask(self, *argv: str) -> Any:
        """Run a program in the guest and return the JSON that it writes; None if nothing."""
        out = self.run(*argv)
        return json.loads(out) if out.strip() else None

    def start(self, *argv: str) -> Program:
        """Start a program in the guest that runs on."""
        return Program(self, self.call("start", argv=argv))

    def close(self) -> None:
        """Hang up."""
        self._lines.close()


class Program:
    """A program that runs in a guest."""

    def __init__(self, guest: Guest, pid: int) -> None:
        self._guest = guest
        self.pid = pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return str(self._guest.call("output", pid=self.pid))

    def wait_output(self, text: str, timeout: float = 30.0) -> None:
        """Wait until it has written a text.

        Raises:
            TimeoutError: it has not; its output is in the message.
        """
        deadline = time.monotonic() + timeout
        while text not in (said := self.output):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} was not written within {timeout:g} s, but: {said}")
            time.sleep(0.05)

    def stop(self, timeout: float = 30.0) -> str:
        """End it by SIGTERM and return all that it wrote."""
        self._guest.call("signal", pid=self.pid)
        return str(self._guest.call("wait", timeout + 30.0, pid=self.pid, timeout=timeout)["out"])
