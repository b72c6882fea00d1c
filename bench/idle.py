"""What tapbond costs when nothing passes: processor time with the carrier poll on and with probes, and memory.

    python bench/idle.py [--seconds 20]

Needs root or root of a user namespace (unshare -Urn), and /dev/net/tun. Processor time is the kernel's own account
in ns (schedstat) of all threads; memory is the resident set.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tapbond.bench.account import memory_kib, processor_ns
from tapbond.lab import FAR_V4, Lab
from tapbond.lab.process import FailoverProcess

PROBES = ("--probe", FAR_V4, "--probe-interval")
VARIANTS = {
    "poll 10 ms": ("--poll", "10"),
    "poll  0 ms": ("--poll", "0"),
    "poll 10 ms, ARP probes over two slaves every 100 ms": (*PROBES, "100"),
    "poll 10 ms, ARP probes over two slaves every  20 ms": (*PROBES, "20"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    slaves = ("--standby", "eth0", "--primary", "eth1")
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        for name, settings in VARIANTS.items():
            with FailoverProcess(lab.host, "tb0", *slaves, *settings, run_dir=Path(folder)) as running:
                running.wait_ready()
                lab.address_failover("tb0")
                time.sleep(2)  # neighbour discovery and the like
                pid = running.process.pid
                before, start = processor_ns(pid), time.monotonic_ns()
                time.sleep(options.seconds)
                share = (processor_ns(pid) - before) / (time.monotonic_ns() - start)
                print(f"{name}: {share:.2%} of a core, {memory_kib(pid, 'Rss') / 1024:.1f} MiB")


if __name__ == "__main__":
    main()
