"""A table that is Markdown and reads well in a terminal too: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapbond.bench.figures import Spread

NONE = "-"
"""In a cell: it was not measured."""
DIGITS = 3
BIG = 1000


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first row its head; the first column to the left, figures to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(cells)} |"

    rule = "|".join(
        (f"{'-' * (width + 1)}:" if place else "-" * (width + 2)) for place, width in enumerate(widths)
    )
    return "\n".join([line(rows[0]), f"|{rule}|", *(line(row) for row in rows[1:])])


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    if abs(value) >= BIG:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{DIGITS}g}"


def extent(found: Spread | None) -> str:
    """Return the median, and in brackets from where to where the values go."""
    if found is None:
        return NONE
    if found.low == found.high:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}…{number(found.high)})"
