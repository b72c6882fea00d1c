"""``--adopt``: a live interface is taken over, and given back, under open connections.

host                                         switch             far
eth0 10.53.0.1/24 .9/24 10.77.0.1/24  ────── sw0 ┐
     fd53::1/64 fd77::1/64  (standby)            br0 ── swf ─── eth0 10.53.0.2/24 fd53::2/64
     default via 10.53.0.2, fd53::2              │
eth1 (primary, down) ─────────────────────── sw1 ┘
tb0  (tapbond's): holds all of eth0's while it runs
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from observe import Start

from tapbond.lab import FAR_V4, FAR_V6, Lab, TcpStream, UdpFlow, stream_outage_ns, wait_until, windows
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

ADOPT = ("--standby", "eth0", "--adopt")
FAR_MAC = "02:00:00:00:00:77"

LIVE = """
link set eth0 up
addr add 10.53.0.1/24 brd + dev eth0
addr add 10.53.0.9/24 brd + dev eth0
addr add 10.77.0.1/24 dev eth0 label eth0:1 metric 77 valid_lft 5000 preferred_lft 4000
addr add 10.88.0.1/24 dev eth0 noprefixroute
addr add 10.99.0.1 peer 10.99.0.2/32 dev eth0
addr add fd53::1/64 dev eth0 nodad
addr add fd53::9/64 dev eth0 nodad noprefixroute home
addr add fd77::1/64 dev eth0 nodad valid_lft 5000 preferred_lft 4000
route add default via 10.53.0.2 dev eth0
route add default via 10.53.0.2 dev eth0 metric 300 src 10.53.0.9 mtu 1400 proto static
route add 192.0.2.0/24 via 10.53.0.2 dev eth0 table 99 src 10.53.0.9
route add 10.88.0.0/24 dev eth0 proto kernel scope link src 10.88.0.1 metric 100
route add 198.51.100.0/24 via 203.0.113.1 dev eth0 onlink
route add 203.0.113.0/24 nexthop via 10.53.0.2 dev eth0 weight 3 nexthop via 10.53.0.3 dev eth0
route add blackhole 100.64.0.0/10
-6 route add default via fd53::2 dev eth0
-6 route add default via fe80::2 dev eth0 metric 2000 proto ra
-6 route add fd99::/64 via fd53::2 dev eth0 table 99
-6 route add fd98::/64 nexthop via fd53::2 dev eth0 nexthop via fd53::3 dev eth0
-6 route add fd97::/64 via fd53::2 dev eth0 expires 5000
neigh add 10.53.0.77 lladdr 02:00:00:00:00:77 dev eth0
neigh add fe80::2 lladdr 02:00:00:00:00:77 dev eth0
rule add from 10.53.0.9 lookup 99
"""


def go_live(lab: Lab) -> None:
    """Give eth0 all that a host's only interface may have."""
    for line in LIVE.strip().splitlines():
        lab.host.check_output(["ip", *line.split()])
    wait_until(lambda: "tentative" not in lab.host.check_output(["ip", "addr", "show", "eth0"]), what="DAD")
    ping(lab, FAR_V4)
    ping(lab, FAR_V6)


def ping(lab: Lab, address: str, *options: str) -> None:
    lab.host.check_output(["ping", "-c1", "-W5", *options, address])


def differences(before: list[str], after: list[str], but: Sequence[str] = (), tap: str = "eth0") -> None:
    """Find the same lines before and after, with the TAP for the standby."""
    now = [line.replace(tap, "eth0") for line in after]
    changed = [f"- {line}" for line in before if line not in now] + [
        f"+ {line}" for line in now if line not in before
    ]
    changed = [line for line in changed if not any(word in line for word in but)]
    assert not changed, "\n".join(changed)


def state(lab: Lab) -> list[str]:
    """Return what ``ip`` shows of addresses, routes, rules and neighbours, without what passes with time."""
    found = []
    for command in (
        "addr",
        "route show table all",
        "-6 route show table all",
        "rule",
        "-6 rule",
        "neigh show nud permanent",
    ):
        text = lab.host.check_output(["ip", *command.split()])
        text = re.sub(r"(valid_lft|preferred_lft|expires) \d+sec", r"\1 some", text)
        text = re.sub(r" (qdisc|state) \w+| tentative", "", text)
        found += [f"{command}: {line.strip()}" for line in text.splitlines()]
    return found


def routes_of(lab: Lab, link: str) -> list[str]:
    """Return the routes through a link that the kernel does not make for every link."""
    text = lab.host.check_output(["ip", "route", "show", "table", "all", "dev", link])
    text += lab.host.check_output(["ip", "-6", "route", "show", "table", "all", "dev", link])
    return [line for line in text.splitlines() if "table local" not in line and not line.startswith("fe80::/64")]


def addresses_of(lab: Lab, link: str) -> set[str]:
    found: list[dict[str, Any]] = json.loads(lab.host.check_output(["ip", "-j", "addr", "show", link]))
    return {a["local"] for a in found[0]["addr_info"] if not a["local"].startswith("fe80")}


EVERYTHING = {"10.53.0.1", "10.53.0.9", "10.77.0.1", "10.88.0.1", "10.99.0.1", "fd53::1", "fd53::9", "fd77::1"}


def adopt(lab: Lab, start: Start, *options: str) -> FailoverProcess:
    return start(lab, *ADOPT, *options, wait=False).wait_ready()


@pytest.mark.parametrize("isolation", ["bridge", "nft", "none"])
def test_everything_moves_and_comes_back(lab: Lab, start: Start, isolation: str) -> None:
    go_live(lab)
    before = state(lab)
    process = adopt(lab, start, "--isolation", isolation)
    assert addresses_of(lab, "tb0") == EVERYTHING
    assert addresses_of(lab, "eth0") == set()
    assert routes_of(lab, "eth0") == []
    differences(before, state(lab), but=("table local", "fe80::/64", "addr: "), tap="tb0")
    ping(lab, FAR_V4)
    ping(lab, FAR_V6)
    ping(lab, FAR_V4, "-I", "10.53.0.9")
    assert process.stop() == 0
    differences(before, state(lab))
    ping(lab, FAR_V4)


@pytest.mark.parametrize("isolation", ["bridge", "nft", "none"])
def test_open_connections_go_on(lab: Lab, start: Start, isolation: str) -> None:
    go_live(lab)
    with (
        TcpStream(lab.host, lab.far, FAR_V4, 7000, rate=20_000_000) as v4,
        TcpStream(lab.host, lab.far, FAR_V6, 7001, rate=20_000_000) as v6,
        TcpStream(lab.far, lab.host, "10.53.0.1", 7002, rate=20_000_000) as inward,
        UdpFlow(lab.host, lab.far, FAR_V4, 7003, rate=1000, seconds_max=60) as out,
        UdpFlow(lab.far, lab.host, "10.53.0.1", 7004, rate=1000, seconds_max=60) as back,
    ):
        streams = (v4, v6, inward)
        flows = {"out": out, "in": back}
        for traffic in (*streams, *flows.values()):
            traffic.start()
        events = []
        for happening in ("adopted", "given back"):
            begin = time.monotonic_ns()
            events.append((happening, begin))
            if happening == "adopted":
                process = adopt(lab, start, "--isolation", isolation)
            else:
                assert process.stop() == 0
            end = time.monotonic_ns()
            for stream in streams:
                wait_until(lambda stream=stream, end=end: stream.alive_since(end), what="bytes after it")
            for name, stream in zip(("tcp4", "tcp6", "tcp in"), streams, strict=True):
                print(f"{isolation} {happening} {name}: {stream_outage_ns(stream.record(), begin) / 1e6:.1f} ms")
            settled = [flow.received for flow in flows.values()]
            wait_until(lambda settled=settled: all(f.received > n + 200 for f, n in zip(flows.values(), settled, strict=True)))
    for name, flow in flows.items():
        for window in windows(flow.record(), events):
            print(isolation, name, window.name, window.sent, "lost", window.lost, "dup", window.duplicated, f"{window.outage_ns/1e6:.1f} ms")
            assert window.lost <= 100
