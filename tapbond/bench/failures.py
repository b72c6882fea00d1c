"""What may go wrong with a subject, and whose fault it is."""

from __future__ import annotations

import subprocess

from pyroute2.netlink.exceptions import NetlinkError

from tapbond.errors import TapbondError

FAILURES = (TapbondError, OSError, TimeoutError, subprocess.SubprocessError, NetlinkError)
"""Of a subject. Ours has to work; another one may not fit here."""


def as_ours(what: str, error: Exception) -> TapbondError:
    """Return the one error that ends the comparison."""
    return error if isinstance(error, TapbondError) else TapbondError(f"{what}: {error}")
