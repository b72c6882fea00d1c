"""Read the configuration again: SIGHUP and ``tapbond reload``."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import TextIO

import msgspec
import structlog

from tapbond.config.change import Change, applicable, compare
from tapbond.config.configuration import Configuration
from tapbond.config.options import to_settings
from tapbond.errors import ConfigError, TapbondError
from tapbond.failover import Failover
from tapbond.service.notify import notify_systemd

log = structlog.get_logger()


class Reloading:
    """Applies what a file says now, as far as that can be done while the failover runs.

    Args:
        failover: created.
        configuration: with which it was.
    """

    def __init__(self, failover: Failover, configuration: Configuration) -> None:
        self._failover = failover
        self._configuration = configuration
        self._in_force = configuration.options
        self._one_at_a_time = asyncio.Lock()
        self._terminals = terminals()
        self._tasks: set[asyncio.Task[None]] = set()

    def hang_up(self, stop: Callable[[], None]) -> None:
        """Take SIGHUP: reload, or ``stop`` when it tells that our terminal was closed."""
        if hung_up(self._terminals):
            stop()
            return
        task = asyncio.get_running_loop().create_task(self._try())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> Change:
        """Read and apply; return what has become of it, which is logged too.

        Raises:
            TapbondError: the file is wrong, or what it says cannot be done; nothing has changed then.
        """
        async with self._one_at_a_time:
            notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                change = await self._reload()
            except TapbondError as error:
                log.error("configuration not changed", failover=self._failover.name, reason=str(error))  # noqa: TRY400
                raise
            finally:
                if self._failover.ready.is_set():
                    notify_systemd("READY=1")
        say = log.warning if change.restart or change.refused else log.info
        say("configuration read again", failover=self._failover.name, result=str(change))
        return change

    async def _try(self) -> None:
        with contextlib.suppress(TapbondError):  # it is in the log
            await self.reload()

    async def _reload(self) -> Change:
        found = self._configuration.again()
        if found.file.path is None:
            raise ConfigError(
                [f"{self._failover.name}: was started without a configuration file, and there is none"]
            )
        change = compare(self._in_force, found.options)
        options = applicable(self._in_force, found.options)
        try:
            settings = to_settings(self._failover.name, options)
        except TapbondError as error:
            waits = ", ".join(change.restart)
            raise ConfigError([f"{error} (it needs a restart, as do {waits}: nothing was applied)"]) from error
        refused = await self._failover.adjust(settings)
        self._in_force = options
        return msgspec.structs.replace(change, refused=tuple(refused))


def terminals() -> list[TextIO]:
    """Return which of the standard streams are terminals."""
    return [stream for stream in (sys.stdin, sys.stdout, sys.stderr) if stream and stream.isatty()]


def hung_up(before: list[TextIO]) -> bool:
    """Return whether a terminal was closed: __tty_hangup() has every ioctl of it fail, then sends SIGHUP."""
    return any(not stream.isatty() for stream in before)
