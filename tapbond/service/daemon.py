"""``tapbond run``: one failover in the foreground until it is told to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine

import uvloop

from tapbond.config.configuration import Configuration
from tapbond.errors import TapError
from tapbond.failover import Failover
from tapbond.rundir import RunDir
from tapbond.service.control import ControlServer
from tapbond.service.notify import notify_ready_fd, notify_systemd
from tapbond.service.publications import Publications
from tapbond.service.reloading import Reloading

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The last unless it is ignored, as under nohup: a terminal that closes must not leave slaves behind. Once the
failover runs with a configuration file, SIGHUP has it read again, unless it is such a terminal's."""


def run(failover: Coroutine[None, None, None]) -> None:
    """Run the service on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(failover)


async def serve(failover: Failover, configuration: Configuration, ready_fd: int | None) -> None:
    """Create a failover, answer on its control socket, and give everything back when told to stop.

    Raises:
        TapbondError: it could not be created, or its TAP went away.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    run_dir = RunDir(failover.settings.run_dir)
    publications = Publications(failover, run_dir)
    try:
        await failover.create()  # takes milliseconds, and is not left half-done
        control = ControlServer(failover, run_dir.socket(failover.name), stop.set)
        reloading = Reloading(failover, configuration)
        control.reload = reloading.reload
        if configuration.file.path is not None and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, reloading.hang_up, stop.set)
        await control.start()
        try:
            await publications.start()
            if await _unless(stop, failover.ready.wait(), failover.lost.wait()) and failover.ready.is_set():
                _tell_ready(ready_fd)
                await _unless(stop, failover.lost.wait())
        finally:
            notify_systemd("STOPPING=1")
            await control.close()
    finally:
        try:
            await publications.close()
        finally:
            await failover.destroy()
    if failover.lost.is_set():
        raise TapError(failover.lost_because)


def _tell_ready(ready_fd: int | None) -> None:
    notify_systemd("READY=1")
    if ready_fd is not None:
        notify_ready_fd(ready_fd)


async def _unless(stop: asyncio.Event, *waits: Coroutine[None, None, object]) -> bool:
    """Wait for the first of ``waits``; return False, and cancel them, when ``stop`` comes first."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
        done = [task for task in tasks if task.done()]
        for task in done:
            task.result()
        return bool(done)
    finally:
        for task in (*tasks, stopped):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                if not task.done():
                    await task
