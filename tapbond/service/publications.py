"""What a running failover publishes for others: its state as files, its metrics as a page and as a file."""

import asyncio
import contextlib
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tapbond.errors import TapbondError
from tapbond.failover import Failover
from tapbond.formats.sysfs import tree
from tapbond.metrics.address import Address
from tapbond.model import Switchover
from tapbond.rundir import RunDir
from tapbond.service.noticeboard import Noticeboard

if TYPE_CHECKING:
    import socket

    from tapbond.metrics.page import MetricsPage
    from tapbond.metrics.switchovers import SwitchoverCounts

log = structlog.get_logger()

STATE_EVERY_S = 5.0
"""Delays that end change a status without a decision."""
METRICS_EVERY_S = 15.0
"""As often as Prometheus scrapes node_exporter by default."""


class Publications:
    """Publishes while it is open.

    Args:
        failover: not created yet.
        run_dir: where its state goes.

    Raises:
        TapbondError: the metrics cannot be where they are wanted; nothing is changed then.
    """

    def __init__(self, failover: Failover, run_dir: RunDir) -> None:
        self._failover = failover
        self._state = run_dir.state(failover.name)
        self._unwind = AsyncExitStack()
        self._listener: socket.socket | None = None
        file = failover.settings.metrics_file
        self._file = None if file is None else Path(file)
        if failover.settings.metrics is not None:
            from tapbond.metrics.server import listen  # noqa: PLC0415  (prometheus_client: only where it is wanted)

            self._listener = listen(Address.parse(failover.settings.metrics))
        if self._file is not None:
            _check_folder(self._file)
        self._records = failover.events()

    async def start(self) -> None:
        """Begin, once the failover is created."""
        failover = self._failover
        await self._post(Noticeboard(self._state, lambda: tree(failover.status()), STATE_EVERY_S, own=True))
        if self._listener is None and self._file is None:
            return
        from tapbond.metrics.page import MetricsPage  # noqa: PLC0415
        from tapbond.metrics.switchovers import SwitchoverCounts  # noqa: PLC0415

        counts = SwitchoverCounts()
        page = MetricsPage(failover.status, counts, time.monotonic_ns)
        board = None
        if (file := self._file) is not None:
            board = Noticeboard(file.parent, lambda: {file.name: page.text()}, METRICS_EVERY_S, own=False)
            await self._post(board)
        if self._listener is not None:
            await self._serve(page, self._listener)
        counting = asyncio.create_task(self._count(counts, board))
        self._unwind.push_async_callback(_cancel, counting)

    async def close(self) -> None:
        """Stop, and remove the files; again is harmless, before the start too."""
        unwind, self._unwind = self._unwind, AsyncExitStack()
        await unwind.aclose()
        if self._listener is not None:
            self._listener.close()

    async def _post(self, board: Noticeboard) -> None:
        board.start()
        self._unwind.push_async_callback(board.close)
        self._failover.watch(board.changed)

    async def _serve(self, page: "MetricsPage", listener: "socket.socket") -> None:
        from tapbond.metrics.server import MetricsServer  # noqa: PLC0415

        server = MetricsServer(listener, page.answer)
        self._unwind.push_async_callback(server.close)
        await server.start()
        log.info("metrics are served", failover=self._failover.name, address=self._failover.settings.metrics)

    async def _count(self, counts: "SwitchoverCounts", board: Noticeboard | None) -> None:
        """Count the records as they are completed: up to a second after the switchover."""
        async for event in self._records:
            if isinstance(event, Switchover):
                counts.add(event)
                if board is not None:
                    board.changed()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _check_folder(file: Path) -> None:
    """Refuse a file that cannot be written."""
    if not file.parent.is_dir():
        raise TapbondError(f"--metrics-file {file}: {file.parent} is no folder")
    if file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
        raise TapbondError(f"--metrics-file {file}: cannot be written there")
