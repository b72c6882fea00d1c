"""What the demo says at its end: a row an event, then the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tapbond.lab.demo.outcome import Direction, Outcome, Row

COLUMNS = (
    "event",
    "seen by",
    "after",
    "outage\n→ ",
    "outage\n← ",
    "lost\n→ ←",
    "re-\nsent",
    "dup\n→ ←",
    "TCP",
)
LATE_SHARE = 0.5


def table(outcome: Outcome) -> Table:
    """Return the table; 80 columns are enough."""
    made = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, show_footer=True)
    footer = _total_cells(outcome)
    for place, (header, total) in enumerate(zip(COLUMNS, footer, strict=True)):
        words = place < 2  # noqa: PLR2004 - the first two are words, the others numbers
        made.add_column(header, footer=total, justify="left" if words else "right", no_wrap=True)
    for row in outcome.rows:
        made.add_row(*(Text(cell, style=_style(row)) for cell in cells(row)))
    return made


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text."""
    far, host = row.to_far, row.to_host
    return (
        row.label,
        row.detector or ("-" if not row.expected else "nobody"),
        "-" if row.detection_ms is None else f"{row.detection_ms:.2f}",
        _outage(far),
        _outage(host),
        f"{far.lost} {host.lost}",
        str(row.resent),
        f"{far.duplicated} {host.duplicated}",
        "alive" if row.tcp_alive else "DEAD",
    )


def _total_cells(outcome: Outcome) -> tuple[str, ...]:
    sums = outcome.totals
    return (
        "total",
        "",
        "",
        "",
        "",
        f"{sums.to_far_lost} {sums.to_host_lost}",
        str(sums.resent),
        f"{sums.to_far_duplicated} {sums.to_host_duplicated}",
        "alive" if sums.tcp_alive else "DEAD",
    )


def sender_late(path: Direction) -> bool:
    """Return whether an outage is in good part the sender's own delay."""
    return path.sender_late_ms > path.outage_ms * LATE_SHARE


def _outage(path: Direction) -> str:
    if not path.recovered:
        return "for ever"
    return f"{path.outage_ms:.2f}" + ("*" if sender_late(path) else " ")


def _style(row: Row) -> str:
    return "" if row.expected else "dim"


def notes(outcome: Outcome) -> list[str]:
    """Return what a reader of the table has to know."""
    machine, settings = outcome.machine, outcome.settings
    lines = [
        f"→ host to far, ← far to host, {settings.rate} frames/s each; TCP {settings.tcp_mbit} Mbit/s; in ms",
        f"Linux {machine.kernel}, {machine.cpus} CPUs, Python {machine.python}.",
        f"Isolation {outcome.isolation}, rx {settings.rx}"
        + ("; in a user namespace." if settings.user_namespace else "."),
    ]
    paths = [path for row in outcome.rows for path in (row.to_far, row.to_host)]
    if any(sender_late(path) for path in paths):
        lines.append("* the sender itself was late for more than half of it: the machine is busy.")
    if outcome.totals.queue_dropped:
        lines.append(
            f"{outcome.totals.queue_dropped} frames found the queue of tb0 full:"
            " the machine is too busy for this rate."
        )
    return lines


def conclusion(outcome: Outcome) -> list[str]:
    """Return the verdict in words."""
    if outcome.verdict.ok:
        return ["passed: TCP lives, nothing arrived twice, no planned switch lost a frame."]
    return ["FAILED:", *(f"  {fault}" for fault in outcome.verdict.faults)]
