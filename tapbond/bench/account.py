"""What processes cost: the kernel's own accounts (proc(5)), no sampling."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NS_PER_S = 1_000_000_000
IDLE_FIELDS = (3, 4)
"""idle and iowait of the line ``cpu`` in /proc/stat."""
BUSY_FIELDS = 8
"""user nice system idle iowait irq softirq steal; guest time is part of user."""
STEAL_FIELD = 7


def processor_ns(pid: int) -> int:
    """Return what all threads of a process have run, in ns (schedstat); FileNotFoundError: it has gone."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends meanwhile
            total += int((task / "schedstat").read_text().split()[0])
    return total


def machine_ns() -> int:
    """Return what all processors of this machine have worked, in ns, to a clock tick (/proc/stat)."""
    return busy_ticks(Path("/proc/stat").read_text().split("\n", 1)[0]) * NS_PER_S // os.sysconf("SC_CLK_TCK")


def busy_ticks(line: str) -> int:
    """Return the ticks of /proc/stat's first line in which work was done, here and not elsewhere."""
    fields = [int(field) for field in line.split()[1 : 1 + BUSY_FIELDS]]
    return sum(ticks for place, ticks in enumerate(fields) if place not in (*IDLE_FIELDS, STEAL_FIELD))


def memory_kib(pid: int, key: str = "Pss") -> int:
    """Return a figure of smaps_rollup: ``Pss`` (shared pages in part), ``Rss``, ``Private_Dirty``."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split(f"\n{key}:")[1].split()[0])


class Account:
    """What processes have run from its making on.

    Args:
        pids: by the name under which the cost is told.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._begin = self._read()

    def _read(self) -> dict[str, int]:
        return {name: processor_ns(pid) for name, pid in self._pids.items()} | {"machine": machine_ns()}

    def spent_ns(self) -> dict[str, int]:
        """Return by name what each has run, and ``machine``: everything that ran anywhere."""
        return {name: now - self._begin[name] for name, now in self._read().items()}
