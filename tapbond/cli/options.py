"""Options that several commands share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tapbond.errors import ControlError
from tapbond.rundir import RunDir
from tapbond.service.client import Client

PRIO = click.IntRange(-(1 << 31), (1 << 31) - 1)
"""That of bonding: a signed 32-bit number."""

run_dir_option = click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TAPBOND_RUN_DIR",
    help="Where control sockets and locks are.  [default: /run/tapbond, else $XDG_RUNTIME_DIR/tapbond]",
)


def connect(failover: str, run_dir: Path | None) -> Client:
    """Return a connection to a running failover."""
    return Client(failover, RunDir(run_dir))


def wanted(failover: str | None, run_dir: Path | None) -> Iterator[Client]:
    """Yield a connection to the failover, or to each that runs in this network namespace.

    Raises:
        ControlError: there is none.
    """
    names = [failover] if failover else running(run_dir)
    if not names:
        raise ControlError("no failover runs in this network namespace")
    for name in names:
        with connect(name, run_dir) as client:
            yield client


def colours() -> bool:
    """Return whether to print in colour: on a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def running(run_dir: Path | None) -> list[str]:
    """Return the names of the failovers that run in this network namespace."""
    found = []
    for name in RunDir(run_dir).failovers():
        try:
            with connect(name, run_dir):
                found.append(name)
        except ControlError:
            continue
    return found
