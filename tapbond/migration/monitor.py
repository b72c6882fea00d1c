"""One QMP connection (docs/interop/qmp-spec.rst) through qemu.qmp, with an end to every wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from tapbond.migration.errors import HypervisorError

ANSWER_S = 10.0
"""For a command, and for the greeting: a socket that another client has is silent."""


class Monitor:
    """One QMP connection.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._client = QMPClient("tapbond")
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> None:
        """Connect.

        Raises:
            HypervisorError: nobody answers, or another client has the socket.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._client.connect(self._path)
        except TimeoutError as error:
            raise HypervisorError(f"{self._path}: no greeting (another QMP client has the socket?)") from error
        except (QMPError, OSError) as error:
            raise HypervisorError(f"{self._path}: no QEMU answers: {_reason(error)}") from error

    async def close(self) -> None:
        """Disconnect; again is harmless."""
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command; ``_`` in names of arguments is ``-``.

        Raises:
            HypervisorError: QEMU says no, or nothing.
        """
        told: Mapping[str, object] = {name.replace("_", "-"): value for name, value in arguments.items()}
        return await self.run(command, told)

    async def run(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Run a command with arguments as they are; raises what execute() does."""
        try:
            async with self._one_at_a_time, asyncio.timeout(ANSWER_S):
                return await self._client.execute(command, arguments)
        except TimeoutError as error:
            raise HypervisorError(f"{self._path}: no answer to {command}") from error
        except (QMPError, OSError, EOFError) as error:
            raise HypervisorError(f"{self._path}: {command}: {_reason(error)}") from error

    @contextlib.asynccontextmanager
    async def listen(self, *events: str) -> AsyncIterator[EventListener]:
        """Hear these events from now on."""
        listener = EventListener(events)
        self._client.register_listener(listener)
        try:
            yield listener
        finally:
            self._client.remove_listener(listener)


def _reason(error: BaseException) -> str:
    """Return why, on one line."""
    if isinstance(error, ExecuteError):
        return str(error)
    cause = getattr(error, "exc", None) or error
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__).splitlines()[0]
