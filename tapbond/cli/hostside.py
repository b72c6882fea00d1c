"""What ``tapbond migrate`` and ``tapbond reattach`` share: their options, what they print, and how they stop."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click

from tapbond.errors import TapbondError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MARKS = {
    "doing": "  ... ",
    "done": "  ok  ",
    "failed": " FAIL ",
    "undoing": " undo ",
    "undone": "  ok  ",
    "stuck": " FAIL ",
    "forward": "      ",
}
Option = Callable[[Callable[..., Any]], Callable[..., Any]]

OPTIONS: tuple[Option, ...] = (
    click.argument("domain"),
    click.option(
        "--connect", metavar="URI", default="", help="libvirt that runs DOMAIN.  [default: qemu:///system]"
    ),
    click.option(
        "--device",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="What plugs the VF: JSON for QEMU's device_add, or libvirt's XML.",
    ),
    click.option("--standby", metavar="ID", default="", help="Id or alias of the virtio NIC, if it is not clear."),
    click.option("--tap", metavar="LINK", default="", help="Its TAP, if the hypervisor does not tell."),
    click.option("--uplink", metavar="LINK", default="", help="The bridge's port to the network, often a VF too."),
    click.option("--pf", metavar="LINK", default="", help="The PF of the guest's VF.  [default: found by the VF]"),
    click.option("--vf", metavar="N", type=click.IntRange(0), help="The VF's number."),
    click.option("--netns", default="", help="Network namespace of bridge and PF: name, path or process id."),
    click.option(
        "--link-at-rest",
        type=click.Choice(["down", "up"]),
        default="down",
        help="The standby's link while there is no migration; up: it is left alone.  [default: down]",
    ),
    click.option(
        "--unplug-timeout",
        metavar="S",
        type=click.FloatRange(0, min_open=True),
        default=30.0,
        help="How long the guest may take to let go of the VF.  [default: 30]",
    ),
    click.option("--dry-run", is_flag=True, help="Look, print the plan with what undoes each step, and stop."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line."),
    click.option("--resume", is_flag=True, help="Go on where an earlier run was killed or stuck."),
    click.option("--abort", is_flag=True, help="Undo what an earlier run did."),
    click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="TAPBOND_STATE_DIR",
        help="Where journals are.  [default: /var/lib/tapbond, else $XDG_STATE_HOME/tapbond]",
    ),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


class Screen:
    """Says what happens: lines for a person and a bar on a terminal, or JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._bar: Any = None
        self._task: Any = None

    def tell(self, said: Any) -> None:
        """Take a Said."""
        if self._as_json:
            self._json(event=str(said.what), step=said.step, text=said.text)
            return
        self.close()
        if said.what != "doing" or not sys.stdout.isatty():
            click.echo(f"{MARKS[said.what]}{said.text}")

    def report(self, progress: Any) -> None:
        """Take a Progress."""
        if self._as_json:
            self._json(
                event="progress",
                transferred=progress.transferred,
                remaining=progress.remaining,
                total=progress.total,
                rate=round(progress.rate),
                left_s=progress.left_s,
            )
        elif sys.stdout.isatty():
            self._draw(progress)

    def plan(self, steps: Any) -> None:
        """Print what would be done, and what would undo it."""
        past = False
        for number, step in enumerate(steps, 1):
            undo = "" if past else step.undo_text
            past |= step.final
            if self._as_json:
                self._json(event="plan", step=step.key, text=step.text, undo=undo)
            else:
                click.echo(f"{number:3}. {step.text}\n       undo: {undo or 'none: the guest has moved'}")

    def say(self, text: str, **more: Any) -> None:
        """Say how it ended."""
        self.close()
        if self._as_json:
            self._json(event="end", text=text, **more)
        else:
            click.echo(text)

    def close(self) -> None:
        """Take the bar away; again is harmless."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, progress: Any) -> None:
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        if self._bar is None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, transient=True)
            self._task = self._bar.add_task("memory", total=None)
            self._bar.start()
        # Memory that the guest writes meanwhile is sent again: the whole grows.
        total = progress.transferred + progress.remaining
        self._bar.update(self._task, completed=progress.transferred, total=total or None)

    def _json(self, **fields: Any) -> None:
        click.echo(json.dumps({"time": round(time.time(), 3), **fields}))


@contextlib.contextmanager
def interruptible(loop: asyncio.AbstractEventLoop, interrupt: asyncio.Event) -> Iterator[None]:
    """Let a signal ask for the undoing; further ones change nothing, for undoing is not to be interrupted."""
    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in wanted:
        loop.add_signal_handler(number, interrupt.set)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


def execute(work: Callable[[Screen], Awaitable[None]], as_json: bool) -> None:
    """Run on uvloop; an error is the last line of JSON too."""
    from tapbond.service.daemon import run  # noqa: PLC0415

    screen = Screen(as_json)

    async def main() -> None:
        await work(screen)

    try:
        run(main())
    except TapbondError as error:
        if as_json:
            screen.say(str(error), error=type(error).__name__)
        raise
    finally:
        screen.close()


@contextlib.asynccontextmanager
async def site_of(told: Any, standby: str) -> AsyncIterator[Any]:
    """Open the hypervisor and the network that wishes or facts name; ``told.device`` is the text of the device."""
    from tapbond.migration.backend import choose  # noqa: PLC0415
    from tapbond.migration.kernel import KernelNetwork  # noqa: PLC0415
    from tapbond.migration.step import Site  # noqa: PLC0415

    hypervisor = choose(
        told.domain,
        connect=told.connect,
        device=told.device,
        standby=standby,
        destination=told.destination,
        transport=told.transport,
    )
    network = KernelNetwork(told.netns)
    async with contextlib.AsyncExitStack() as unwind:
        unwind.push_async_callback(network.close)
        await network.open()
        unwind.push_async_callback(hypervisor.close)
        await hypervisor.open()
        yield Site(hypervisor, network)


def domain_name(domain: str) -> str:
    """Return one name for a domain, however its socket is spelled."""
    return os.path.realpath(domain) if "/" in domain else domain
