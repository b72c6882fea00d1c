"""TCP through tapbond, interleaved with the bare veth pair and with a bridge hop.

    python bench/throughput.py [--rounds 5] [--seconds 2] [--mtu 1500] [--json FILE]

Round by round, so that a drifting machine favours none. Needs iperf3, root or root of a user namespace
(unshare -Urn), and /dev/net/tun. Figures are medians of Gbit/s and the ratios of those medians; single rounds are
in the JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tapbond.lab import FAR_V4, Lab, Namespace, Pair, wait_until
from tapbond.lab.process import FailoverProcess

DIRECTIONS = {"to far": (), "from far": ("-R",)}


def iperf3(host: Namespace, far: Namespace, seconds: float, options: tuple[str, ...]) -> float:
    """Return Gbit/s received in one TCP stream."""
    with far.spawn(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL) as server:
        wait_until(lambda: listening(far), what="the iperf3 server")
        report = host.check_output(["iperf3", "-J", "-t", str(seconds), "-c", str(FAR_V4), *options], seconds + 20)
        server.wait(10)
    return float(json.loads(report)["end"]["sum_received"]["bits_per_second"]) / 1e9


def listening(far: Namespace) -> bool:
    """Return whether something listens on port 5201, without connecting to it."""
    table: str = far.run(lambda: Path("/proc/thread-self/net/tcp6").read_text())
    return any(
        row.split()[1].endswith(f":{5201:04X}") and row.split()[3] == "0A" for row in table.splitlines()[1:]
    )


def measure(
    rounds: int, seconds: float, mtu: int, tapbond_options: list[str]
) -> dict[str, dict[str, list[float]]]:
    """Run all subjects in turn, round by round."""
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pair = stack.enter_context(Pair(mtu=mtu))
        hop = stack.enter_context(Pair(mtu=mtu, bridge=True))
        lab = stack.enter_context(Lab(mtu=mtu))
        options = ("--standby", "eth0", "--primary", "eth1", *tapbond_options)
        stack.enter_context(FailoverProcess(lab.host, "tb0", *options, run_dir=run_dir)).wait_ready()
        lab.address_failover("tb0")
        subjects: dict[str, Callable[[tuple[str, ...]], float]] = {
            "veth": lambda o: iperf3(pair.host, pair.far, seconds, o),
            "veth + bridge": lambda o: iperf3(hop.host, hop.far, seconds, o),
            "tapbond": lambda o: iperf3(lab.host, lab.far, seconds, o),
        }
        found: dict[str, dict[str, list[float]]] = {d: {s: [] for s in subjects} for d in DIRECTIONS}
        for number in range(rounds):
            for direction, client in DIRECTIONS.items():
                for subject, run in subjects.items():
                    found[direction][subject].append(run(client))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
        return found


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--mtu", type=int, default=1500)
    parser.add_argument("--json", type=Path)
    parser.add_argument("tapbond_options", nargs="*", help="passed to tapbond run, after --")
    options = parser.parse_args()
    if shutil.which("iperf3") is None:
        sys.exit("iperf3 is not installed (Debian: apt-get install iperf3)")
    rounds = measure(options.rounds, options.seconds, options.mtu, options.tapbond_options)
    medians = {d: {s: statistics.median(values) for s, values in by.items()} for d, by in rounds.items()}
    print(f"{'one TCP stream, Gbit/s':24}{'to far':>10}{'from far':>10}")
    for subject in medians["to far"]:
        print(f"{subject:24}" + "".join(f"{medians[d][subject]:10.2f}" for d in DIRECTIONS))
    for base in ("veth", "veth + bridge"):
        ratios = "".join(f"{medians[d]['tapbond'] / medians[d][base]:10.2f}" for d in DIRECTIONS)
        print(f"{'tapbond / ' + base:24}{ratios}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(
            json.dumps(
                {
                    "machine": machine,
                    "mtu": options.mtu,
                    "seconds": options.seconds,
                    "rounds": rounds,
                    "median": medians,
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
