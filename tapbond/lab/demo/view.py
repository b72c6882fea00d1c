"""What the demo shows while it runs: a picture on a terminal, a line an event elsewhere."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from tapbond.lab.demo.plan import PRIMARY, STANDBY, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from tapbond.lab.demo.performance import Scene
    from tapbond.model import Switchover
    from tapbond.state import Status

NS_PER_S = 1e9
NS_PER_MS = 1e6
BARS = " ▁▂▃▄▅▆▇█"
HISTORY = 40
EVENT_LINES = 10
BYTES_PER_MBIT = 125_000


def story(step: Step, at_ns: int, switchovers: Sequence[Switchover]) -> str | None:
    """Return in words how tapbond answered an event, None if it has not, as far as is known."""
    for record in switchovers:
        if record.detected_ns >= at_ns and record.to_slave == step.to:
            after = (record.detected_ns - at_ns) / NS_PER_MS
            resent = f", {record.resent} re-sent" if record.resent else ""
            path = f"{record.from_slave or 'none'} → {record.to_slave}"
            return f"{path}, {record.detector} after {after:.2f} ms{resent}"
    return None


def bars(rates: Sequence[float], full: float) -> str:
    """Return a sparkline: one character a rate, the highest for ``full`` and above."""
    top = len(BARS) - 1
    return "".join(BARS[min(top, max(0, round(rate / full * top)))] if full else BARS[0] for rate in rates)


def slave_state(status: Status, name: str) -> tuple[str, str]:
    """Return a slave's state in a word, and the style it is written in."""
    slave = next((slave for slave in status.slaves if slave.name == name), None)
    if slave is None:
        return "unplugged", "red"
    if slave.active:
        return "active", "bold green"
    if slave.ready:
        return "ready", "cyan"
    return ("no carrier" if slave.up else "down"), "red"


class LineView:
    """Writes a line when something begins and when an event was answered."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0

    def begin(self, text: str) -> None:
        """Say what is being prepared."""
        self._console.print(text, highlight=False)

    def show(self, scene: Scene) -> None:
        """Write the events that were answered since."""
        for step, at_ns in scene.marks[self._told :]:
            told = story(step, at_ns, scene.switchovers)
            if told is None and (step, at_ns) == scene.marks[-1]:
                return
            began = scene.now_ns - int(scene.elapsed_s * NS_PER_S)
            at_s = (at_ns - began) / NS_PER_S
            self._console.print(f"{at_s:5.1f} s  {step.label:18}  {told or 'no switchover'}", highlight=False)
            self._told += 1

    def running(self) -> AbstractContextManager[object]:
        """Return what surrounds the run."""
        return nullcontext()


class LiveView:
    """Draws the lab, the rates and the events; fits 80x24."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._rates: tuple[deque[float], ...] = tuple(deque(maxlen=HISTORY) for _ in range(3))
        self._last = (0, 0, 0)
        self._most = 1.0

    def running(self) -> AbstractContextManager[object]:
        """Return what surrounds the run: the terminal is put right at its end."""
        return self._live

    def begin(self, text: str) -> None:
        """Say what is being prepared."""
        self._live.update(Text(text), refresh=True)

    def show(self, scene: Scene) -> None:
        """Draw how things are."""
        for history, now, before in zip(self._rates, scene.counts, self._last, strict=True):
            history.append((now - before) / scene.interval_s if scene.interval_s > 0 else 0.0)
        self._last = scene.counts
        self._live.update(self.picture(scene), refresh=True)

    def picture(self, scene: Scene) -> RenderableType:
        """Return what is drawn."""
        head = Text.assemble(("tapbond demo", "bold"), f"{scene.elapsed_s:8.1f} s", style="default")
        return Group(head, Text(), *topology(scene.status), Text(), *self._traffic(scene), Text(), *events(scene))

    def _traffic(self, scene: Scene) -> list[Text]:
        names = ("host → far", "far → host", "TCP")
        lines = []
        for name, history in zip(names, self._rates, strict=True):
            rate = history[-1]
            full = scene.tcp_rate if name == "TCP" else scene.rate
            shown = f"{rate / BYTES_PER_MBIT:7.0f} Mbit/s" if name == "TCP" else f"{rate:7.0f} frames/s"
            style = "green" if rate > full / 2 else "red"
            lines.append(
                Text.assemble(f"  {name:10}  ", (f"{bars(tuple(history), full):>{HISTORY}}", style), shown)
            )
        return lines


def topology(status: Status) -> list[Text]:
    """Return the lab as four lines, the active path in green."""
    lines = [Text("  host                                 switch          far", style="dim")]
    for name, role, port, left, right in (
        (PRIMARY, "primary", "sw1", "  tb0 ═╦═ ", "┐"),
        (STANDBY, "standby", "sw0", "       ╚═ ", "┴ br0 ── swf ─── eth0"),
    ):
        state, style = slave_state(status, name)
        wire = "━━━━━━" if state == "active" else "──────" if state == "ready" else "─     "
        lines.append(Text.assemble(left, (f"{name} {role} ", style), (f"{state:10} {wire} {port} ", style), right))
    return lines


def events(scene: Scene) -> list[Text]:
    """Return the last events, a line each."""
    lines = []
    began = scene.now_ns - int(scene.elapsed_s * NS_PER_S)
    for step, at_ns in scene.marks[-EVENT_LINES:]:
        told = story(step, at_ns, scene.switchovers)
        shown = (told, "default") if told else ("...", "dim")
        at_s = (at_ns - began) / NS_PER_S
        lines.append(Text.assemble((f"  {at_s:5.1f} s  ", "dim"), (f"{step.label:18}  ", "bold"), shown))
    return lines


def choose(console: Console) -> LineView | LiveView:
    """Return the view for this console: a picture needs a terminal that can move its cursor."""
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console) if live else LineView(console)
