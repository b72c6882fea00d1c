"""What ``tapbond migrate`` and ``tapbond reattach`` print."""

import json
import sys
import time
from typing import Any

import click

MARKS = {
    "doing": "  ... ",
    "done": "  ok  ",
    "failed": " FAIL ",
    "undoing": " undo ",
    "undone": "  ok  ",
    "stuck": " FAIL ",
    "forward": "      ",
}


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
