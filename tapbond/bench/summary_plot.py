"""``--summary-plot``: how near each subject comes to the bare path, in one picture for a README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tapbond.bench.figures import ratios
from tapbond.bench.loads import LOADS
from tapbond.bench.subjects import BASE, SUBJECTS

if TYPE_CHECKING:
    from pathlib import Path

    from tapbond.bench.figures import Spread
    from tapbond.bench.result import Result

BARS = (
    ("tcp", "to far", "TCP, to the far host", "#0b6e99"),
    ("tcp", "from far", "TCP, from it", "#7fb8d1"),
    ("udp60", "to far", "UDP of 18 bytes, to the far host", "#c2571a"),
    ("udp60", "from far", "UDP, from it", "#e6ae8b"),
)
SIZE, DPI = (10.0, 4.4), 100
WIDTH = 0.2
LEAST_SHOWN = 0.1
"""A smaller ratio is written above its bar, which can hardly be seen."""
STYLE: Any = {
    "font.size": 13,
    "svg.hashsalt": "tapbond",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def write(path: Path, result: Result) -> None:
    """Draw it; nothing that there is no ratio of is drawn."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    found = {name: _ratios(result, name) for name in SUBJECTS}
    names = [name for name, bars in found.items() if any(bars)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained", dpi=DPI)
        axes = figure.add_subplot()
        for turn, (_, _, label, colour) in enumerate(BARS):
            _bars(axes, [found[name][turn] for name in names], turn, label, colour)
        axes.axhline(1, color="#333333", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xticks(range(len(names)), [_wrapped(SUBJECTS[name].label) for name in names])
        axes.tick_params(axis="x", length=0, labelsize=11.5)
        axes.set_ylabel(f"{SUBJECTS[BASE].label} = 1")
        axes.margins(x=0.02, y=0.04)
        if names:
            figure.legend(loc="outside upper center", ncols=len(BARS) // 2, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _ratios(result: Result, name: str) -> list[Spread | None]:
    def values(subject: str, load: str, direction: str) -> tuple[float, ...]:
        return result.values(load, direction, subject, LOADS[load].metric)

    return [ratios(values(name, *bar), values(BASE, *bar)) for bar in (bar[:2] for bar in BARS)]


def _bars(axes: Any, found: list[Spread | None], turn: int, label: str, colour: str) -> None:
    shift = (turn - (len(BARS) - 1) / 2) * WIDTH
    for place, ratio in enumerate(found):
        if ratio is None:
            continue
        at = place + shift
        axes.bar(at, ratio.median, WIDTH * 0.94, color=colour, label=label)
        axes.plot([at, at], [ratio.low, ratio.high], color="#333333", linewidth=1.2)
        label = ""
        if ratio.median < LEAST_SHOWN:
            text, at_top = f"{ratio.median:.2f}", max(ratio.high, ratio.median) + 0.02
            axes.text(at, at_top, text, ha="center", va="bottom", fontsize=9, rotation=90)


def _wrapped(label: str) -> str:
    """Return it over two lines, broken near its middle."""
    spaces = [place for place, letter in enumerate(label) if letter == " "]
    at = min(spaces, key=lambda place: abs(place - len(label) / 2))
    return f"{label[:at]}\n{label[at + 1 :]}"
