"""The table scenario by subject: made of outcomes, read from and written into docs/conformance.md."""

import re
from collections.abc import Iterable
from pathlib import Path

from scenario import Scenario
from traffic import Figures

SUBJECTS = ("tapbond", "net_failover", "bonding")
INTRO = """# Conformance: tapbond, net_failover and bonding in one guest

Every scenario is written once and run with all three, in one virtual machine (QEMU, Debian's kernel 6.1), observed
through the same eyes: `ip -j -d -s link` in the guest, captures on the switch's ports, numbered datagrams both
ways, 200 a second. The standby is a virtio-net, with `failover=on` for net_failover; the primary is an e1000e,
which stands for a VF. bonding is in mode active-backup, `miimon 100`; "by script" is what its users do themselves.

`make test-vm` runs it and fails where an outcome is not the one below; `make test-vm VM=--update-docs` writes this
file. It is generated: the texts are in `tests/vm/`.
"""
FIGURES = """
## What the events cost

One run, in software emulation, on the machine that wrote this: datagrams lost from the guest (→) and to it (←),
and the longest silence of each direction beyond the 5 ms between datagrams. The figures vary from run to run.
"""
COST = ": lost, silent"
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)

Cells = dict[tuple[str, str], str]
"""By scenario's name and subject."""


def cell_of(figures: Figures) -> str:
    """Say what an event cost."""
    twice = f", {figures.duplicated} twice" if figures.duplicated else ""
    out = f"{figures.lost_out} → {figures.silence_out_ms:.0f} ms"
    return f"{out}, {figures.lost_in} ← {figures.silence_in_ms:.0f} ms{twice}"


def read(path: Path) -> Cells:
    """Return the cells of both tables of a document; none if there is no document."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {(row[1], name): row[at] for row in _ROW.finditer(text) for at, name in enumerate(SUBJECTS, 2)}


def _rows(names: Iterable[str], cells: Cells) -> list[str]:
    lines = ["", f"| scenario | {' | '.join(SUBJECTS)} |", "|---|---|---|---|"]
    for name in names:
        values = [cells.get((name, subject), "not tried") for subject in SUBJECTS]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return lines


def _differences(scenarios: Iterable[Scenario], cells: Cells) -> list[str]:
    lines = ["", "## Why they differ", ""]
    lines += [
        f"* **{scenario.name}**, {subject}: {scenario.why.get(subject, 'NOT EXPLAINED')}"
        for scenario in scenarios
        for subject in SUBJECTS[1:]
        if unexplained(scenario, subject, cells) is not None
    ]
    return lines


def unexplained(scenario: Scenario, subject: str, cells: Cells) -> bool | None:
    """Return whether a difference to tapbond lacks its reason, None if there is no difference."""
    own, other = cells.get((scenario.name, "tapbond")), cells.get((scenario.name, subject))
    if own is None or other is None or own == other:
        return None
    return subject not in scenario.why


def cost_row(event: str) -> str:
    """Return the name of the row of what an event cost."""
    return f"{event}{COST}"


def document(scenarios: list[Scenario], cells: Cells) -> str:
    """Return the whole document: the scenarios, why they differ, and what events cost."""
    lines = _rows((scenario.name for scenario in scenarios), cells)
    lines += _differences(scenarios, cells)
    events = dict.fromkeys(name for name, _ in cells if name.endswith(COST))
    lines += [FIGURES.rstrip(), *_rows(events, cells)]
    return INTRO + "\n".join(lines) + "\n"
