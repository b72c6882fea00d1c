"""The whole comparison: ``tapbond bench`` with every load, more rounds and 200 repetitions of each event.

    python bench/compare.py [--json FILE] [--markdown FILE] [--plot FILE] [any other option of tapbond bench]

Takes about two hours, more than half of it the failovers; a part of it is had by --subjects and --loads. Needs
root or user namespaces, /dev/net/tun, iperf3, and for the whole of it openvswitch-switch.
"""

import sys

from tapbond.cli import main

DEFAULTS = ("--rounds", "10", "--seconds", "2", "--loads", "all", "--repetitions", "200")

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", *DEFAULTS]  # what is given later counts
    main()
