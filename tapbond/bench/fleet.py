"""Many failovers in one process, through the library.

    python -m tapbond.bench.fleet COUNT

Makes ``t0`` of the standby ``a0`` and the primary ``b0``, and so on, one after another, writes a line of JSON with
how long that took, and answers each line that it reads with one: what every failover has switched. It ends, and
gives everything back, at the end of its input.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

import tapbond
from tapbond.model import Switchover  # noqa: TC001 - msgspec reads the annotations
from tapbond.service.daemon import run
from tapbond.service.logs import configure

if TYPE_CHECKING:
    from tapbond.failover import Failover

NS_PER_MS = 1e6


class Created(msgspec.Struct, frozen=True):
    """What it writes first."""

    each_ms: list[float]
    """How long the making of each failover took."""


class Switched(msgspec.Struct, frozen=True):
    """What it answers."""

    active: list[str | None]
    """Who is active, by failover."""
    last: list[Switchover | None]
    """The last switchover, by failover."""


def name(number: int) -> str:
    """Return what a failover of a fleet is called."""
    return f"t{number}"


def slaves(number: int) -> tuple[str, str]:
    """Return its standby and its primary."""
    return f"a{number}", f"b{number}"


async def serve(count: int) -> None:
    """Make them, then answer until the end of the input."""
    async with AsyncExitStack() as stack:
        failovers, each_ms = [], []
        for number in range(count):
            begin = time.monotonic_ns()
            standby, primary = slaves(number)
            failover = await tapbond.create(name(number), standby=standby, primary=primary)
            stack.push_async_callback(tapbond.destroy, failover)
            failovers.append(failover)
            each_ms.append((time.monotonic_ns() - begin) / NS_PER_MS)
        _write(Created(each_ms))
        while await asyncio.to_thread(sys.stdin.buffer.readline):
            _write(_switched(failovers))


def _switched(failovers: list[Failover]) -> Switched:
    records = [failover.switchovers() for failover in failovers]
    return Switched(
        [failover.status().active for failover in failovers],
        [record[-1] if record else None for record in records],
    )


def _write(line: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    configure(verbose=False, quiet=True)
    run(serve(int(sys.argv[1])))
