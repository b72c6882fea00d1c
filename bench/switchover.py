"""Detection, outage and loss of each event, over several runs of the demo.

    python bench/switchover.py [--runs 10] [--isolation bridge] [--json FILE]

Needs root or root of a user namespace (unshare -Urn), and /dev/net/tun. Figures are medians and maxima; what the
machine itself does (the sender was late, nothing had happened) stands in the first row.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COLUMNS = ("detection ms", "outage -> ms", "outage <- ms", "lost ->", "lost <-", "copies")


def run_demo(isolation: str) -> dict[str, Any]:
    """Return what ``tapbond demo --json`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "demo.json"
        command = [sys.executable, "-m", "tapbond", "demo", "--isolation", isolation, "--json", str(report)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if not report.exists():
            sys.exit(done.stderr.strip())
        found: dict[str, Any] = json.loads(report.read_bytes())
        return found


def figures(row: dict[str, Any]) -> tuple[float, ...]:
    """Return one event's figures, in the order of COLUMNS."""
    to_far, to_host = row["to_far"], row["to_host"]
    return (
        row["detection_ms"] or 0.0,
        to_far["outage_ms"],
        to_host["outage_ms"],
        to_far["lost"],
        to_host["lost"],
        to_far["duplicated"] + to_host["duplicated"],
    )


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--isolation", default="bridge")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    outcomes = []
    for number in range(options.runs):
        outcomes.append(run_demo(options.isolation))
        print(f"run {number + 1} of {options.runs}", file=sys.stderr)
    print(f"{'median / maximum':20}" + "".join(f"{column:>16}" for column in COLUMNS))
    for rows in zip(*(outcome["rows"] for outcome in outcomes), strict=True):
        by_column = zip(*map(figures, rows), strict=True)
        cells = (f"{statistics.median(values):.2f} / {max(values):.2f}" for values in by_column)
        print(f"{rows[0]['label']:20}" + "".join(f"{cell:>16}" for cell in cells))
    print(f"{sum(outcome['verdict']['ok'] for outcome in outcomes)} of {options.runs} runs kept every promise")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(outcomes, indent=1))


if __name__ == "__main__":
    main()
