"""A machine whose processors do not sleep: waking one up is most of a round trip on an idle one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._traffic import ffi, lib
from .namespace import checked

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def busy() -> Iterator[None]:
    """Keep all processors at work at SCHED_IDLE (sched(7)), which gives way to everybody; OSError: no threads."""
    out = ffi.new("struct lab_spin **")
    checked(lib.lab_spin_start(out), "busy processors")
    try:
        yield
    finally:
        lib.lab_spin_stop(out[0])
