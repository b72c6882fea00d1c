"""A failover to which netlink tells nothing, so that one of its other detectors can be measured by itself.

    python -m tapbond.bench.deaf NAME --standby LINK --primary LINK [--poll MS] --run-dir FOLDER --ready-fd N

It is ``tapbond run`` until its first SIGUSR1. From then on it knows of links what the carrier poll and send errors
say, and what it reads once at each further SIGUSR1: so the bench lets it see that a link is back.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import NoReturn

import click

from tapbond.config.configuration import Configuration
from tapbond.failover import Failover
from tapbond.service.daemon import run, serve
from tapbond.service.logs import configure

SIGNAL = signal.SIGUSR1


async def listen_no_more(failover: Failover) -> NoReturn:
    """At each SIGNAL read all links anew, and have no event of them told after the first."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(SIGNAL, asked.set)
    while True:
        await asked.wait()
        asked.clear()
        links = failover._parts.lived.links  # noqa: SLF001 - no user of the library wants to be deaf
        await links.close()
        await links.refresh()


async def main(configuration: Configuration, ready_fd: int) -> None:
    """Run it until SIGTERM."""
    failover = Failover(configuration.failover, settings=configuration.settings)
    deafness = asyncio.create_task(listen_no_more(failover))
    try:
        await serve(failover, configuration, ready_fd)
    finally:
        deafness.cancel()


@click.command()
@click.argument("name")
@click.option("--standby", required=True)
@click.option("--primary", required=True)
@click.option("--poll", type=int, default=10, help="In ms; 0: never.")
@click.option("--run-dir", type=click.Path(path_type=Path), required=True)
@click.option("--ready-fd", type=int, required=True)
@click.option("-v", "verbose", is_flag=True)
def command(
    name: str, standby: str, primary: str, poll: int, run_dir: Path, ready_fd: int, *, verbose: bool
) -> None:
    """Run a failover that goes deaf at SIGUSR1."""
    configure(verbose=verbose, quiet=not verbose)
    options = {"standby": standby, "primary": primary, "poll": poll, "run_dir": str(run_dir)}
    run(main(Configuration.read(name, Path(os.devnull), options), ready_fd))


if __name__ == "__main__":
    command()
