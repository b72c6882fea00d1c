"""Copies of what the lab's C half recorded."""

from __future__ import annotations

from array import array

from ._traffic import ffi


def copied(typecode: str, cdata: object, count: int) -> array[int]:
    """Return ``count`` C integers; ``typecode`` is array's."""
    out: array[int] = array(typecode)
    if count:
        out.frombytes(memoryview(ffi.buffer(cdata, count * out.itemsize)))
    return out
