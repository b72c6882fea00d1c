"""Many failovers on one machine: idle cost, memory, time to create, time until all have left a dead switch.

    python bench/scale.py [--counts 1,8,64] [--seconds 5] [--json FILE]

In one process through the library, and in a process each. Needs root or root of a user namespace, /dev/net/tun.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from tapbond.bench.crowd import Measured, measure_one_process, measure_process_each
from tapbond.bench.grid import grid
from tapbond.bench.machine import machine
from tapbond.errors import TapbondError
from tapbond.lab.demo import rights

HEAD = [
    "failovers",
    "in",
    "created ms",
    "idle, % of a processor",
    "memory MiB (PSS)",
    "MiB a further one",
    "carriers taken in ms",
    "all switched ms",
]


def row(found: Measured, first: Measured) -> list[str]:
    further = (found.pss_mib - first.pss_mib) / (found.count - first.count) if found.count > first.count else None
    return [
        str(found.count),
        found.home,
        f"{found.create_ms:.0f}",
        f"{found.idle_share:.2%}",
        f"{found.pss_mib:.1f}",
        "-" if further is None else f"{further:.2f}",
        f"{found.switch_message_ms:.1f}",
        f"{found.switched_ms.high:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1,8,64", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[Measured] = []
    rows = [HEAD]
    try:
        rights.acquire()
        for measure in (measure_one_process, measure_process_each):
            first: Measured | None = None
            for count in options.counts:
                print(f"{measure.__name__}: {count}", file=sys.stderr)
                found.append(measure(count, options.seconds))
                first = first or found[-1]
                rows.append(row(found[-1], first))
    except TapbondError as error:
        sys.exit(f"scale: {error}")
    except KeyboardInterrupt:
        sys.exit("scale: interrupted; everything is taken down")
    print(grid(rows))
    if options.json:
        report = {"machine": machine(), "seconds": options.seconds, "measured": found}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


if __name__ == "__main__":
    main()
