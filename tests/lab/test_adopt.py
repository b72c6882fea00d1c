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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from observe import Start

from tapbond.lab import FAR_V4, FAR_V6, Lab, TcpStream, UdpFlow, stream_outage_ns, wait_until, windows
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "unshare")]

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


def changes(
    before: list[str], after: list[str], but: Sequence[str] = (), *, was: str = "eth0", tap: str = "eth0"
) -> list[str]:
    """Return the lines that are not in both, with one name for the link that has everything."""
    then = [line.replace(was, "eth0") for line in before]
    now = [line.replace(tap, "eth0") for line in after]
    found = [f"- {line}" for line in then if line not in now] + [f"+ {line}" for line in now if line not in then]
    return [line for line in found if not any(word in line for word in but)]


def same_again(before: list[str], lab: Lab, *but: str) -> None:
    """Wait until all is as it was; of eth1, which is up for the first time, the kernel remembers something."""
    try:
        wait_until(lambda: not changes(before, state(lab), but=("dev eth1", *but)))
    except TimeoutError:
        differences(before, state(lab), but=("dev eth1", *but))


def differences(before: list[str], after: list[str], but: Sequence[str] = (), **names: str) -> None:
    """Find none."""
    found = changes(before, after, but, **names)
    assert not found, "\n".join(found)


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
def test_open_connections_go_on(
    lab: Lab, start: Start, isolation: str, record_property: Callable[[str, object], None]
) -> None:
    """At 1000 datagrams a second each way; --junit-xml shows the figures."""
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
        events, figures = [], []
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
            figures.append((happening, *(f"{stream_outage_ns(s.record(), begin) / 1e6:.1f}" for s in streams)))
            settled = [flow.received for flow in flows.values()]
            wait_until(
                lambda settled=settled: all(
                    f.received > n + 200 for f, n in zip(flows.values(), settled, strict=True)
                )
            )
    for name, flow in flows.items():
        for window in windows(flow.record(), events):
            figures.append((name, window.name, window.sent, window.lost, window.duplicated))
            assert window.lost <= 200, figures
            assert window.duplicated <= (1000 if isolation == "none" else 100), figures
    record_property("outages in ms of TCP 4, 6, inward; UDP sent, lost, duplicated", figures)


def tapbond(lab: Lab, tmp_path: Path, *arguments: str, status: int = 0) -> str:
    """Run another tapbond in the host; return what it says."""
    process = lab.host.spawn(
        [sys.executable, "-m", "tapbond", *arguments, "--run-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    text, _ = process.communicate(timeout=30)
    assert process.returncode == status, text
    return str(text)


@pytest.mark.parametrize("isolation", ["bridge", "nft", "none"])
def test_killed_and_restored(lab: Lab, start: Start, tmp_path: Path, isolation: str) -> None:
    go_live(lab)
    before = state(lab)
    adopt(lab, start, "--isolation", isolation).stop(signal.SIGKILL)
    assert addresses_of(lab, "eth0") == set()
    said = tapbond(lab, tmp_path, "restore", "tb0")
    assert re.fullmatch(r"tb0: .*eth0 of tb0: \d+ addresses, \d+ routes, \d+ neighbours\n", said), said
    same_again(before, lab)
    ping(lab, FAR_V4)
    ping(lab, FAR_V6)
    assert tapbond(lab, tmp_path, "restore", "tb0") == "tb0: nothing to restore\n"
    assert tapbond(lab, tmp_path, "restore") == "nothing to restore\n"
    assert tapbond(lab, tmp_path, "restore", "../tb0") == "../tb0: nothing to restore\n"


def test_killed_and_started_again(lab: Lab, start: Start) -> None:
    go_live(lab)
    before = state(lab)
    adopt(lab, start).stop(signal.SIGKILL)
    process = adopt(lab, start)
    assert addresses_of(lab, "tb0") == EVERYTHING
    ping(lab, FAR_V4)
    process.stop(signal.SIGKILL)
    process = start(lab, "--standby", "eth0", wait=False).wait_ready()
    assert addresses_of(lab, "eth0") == EVERYTHING
    process.stop()
    same_again(before, lab)


def test_restore_of_all_leaves_one_that_runs(lab: Lab, start: Start, tmp_path: Path) -> None:
    go_live(lab)
    process = adopt(lab, start)
    said = tapbond(lab, tmp_path, "restore", status=1)
    assert said == f"tapbond: tb0: already run by process {process.status().pid} (see: tapbond status tb0)\n"
    ping(lab, FAR_V4)


def test_what_a_standby_that_has_gone_had_is_kept_until_it_is_back(lab: Lab, start: Start, tmp_path: Path) -> None:
    go_live(lab)
    adopt(lab, start).stop(signal.SIGKILL)
    lab.unplug("eth0")
    for _ in range(2):
        said = tapbond(lab, tmp_path, "restore")
        assert (
            f"eth0 of tb0: kept, no such interface with MAC {lab.mac} (or: tapbond restore --forget tb0)" in said
        )
        assert said.count("\n") == 1
    refused = tapbond(lab, tmp_path, "run", "tb0", "--standby", "eth1", "--adopt", status=1)
    assert (
        "eth0 are kept since an earlier run: put it back with tapbond restore" in refused
        or "nothing to" in refused
    )
    lab.plug("eth0")
    lab.up("eth0")
    assert re.search(r"eth0 of tb0: \d+ addresses", tapbond(lab, tmp_path, "restore"))
    assert addresses_of(lab, "eth0") == EVERYTHING
    assert tapbond(lab, tmp_path, "restore") == "nothing to restore\n"


def test_what_is_kept_may_be_forgotten(lab: Lab, start: Start, tmp_path: Path) -> None:
    go_live(lab)
    process = adopt(lab, start)
    assert "--forget wants a NAME" in tapbond(lab, tmp_path, "restore", "--forget", status=2)
    said = tapbond(lab, tmp_path, "restore", "tb0", "--forget", status=1)
    assert "already run by process" in said
    process.stop(signal.SIGKILL)
    said = tapbond(lab, tmp_path, "restore", "tb0", "--forget")
    assert re.match(
        r"tb0: slave eth0 forgotten; slave eth1 forgotten; what was adopted from eth0 forgotten \(\d+ addresses",
        said,
    ), said
    assert tapbond(lab, tmp_path, "restore", "tb0", "--forget") == "tb0: nothing to forget\n"


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_another_mac_meanwhile(lab: Lab, start: Start, tmp_path: Path, end: str) -> None:
    """``--mac-policy set``: all slaves get it, the standby too, and it is the standby all the same."""
    go_live(lab)
    before = state(lab)
    process = adopt(lab, start, "--mac-policy", "set")
    lab.host.check_output(["ip", "link", "set", "tb0", "address", "02:00:00:00:00:99"])
    wait_until(
        lambda: all(slave.mac == "02:00:00:00:00:99" for slave in process.status().slaves),
        what="it to be passed on",
    )
    ping(lab, FAR_V4)
    if end == "stopped":
        assert process.stop() == 0
    else:
        process.stop(signal.SIGKILL)
        tapbond(lab, tmp_path, "restore")
    assert addresses_of(lab, "eth0") == EVERYTHING
    same_again(before, lab, "neigh show")  # arp_netdev_event() flushes them with every change of the MAC


def test_what_the_user_changed_moves_back(lab: Lab, start: Start) -> None:
    go_live(lab)
    process = adopt(lab, start)
    for line in (
        "addr add 10.66.0.1/24 dev tb0 label tb0:new",
        "addr del 10.77.0.1/24 dev tb0",
        "addr add fd66::1/64 dev tb0 nodad",
        "route add 10.67.0.0/16 via 10.66.0.2 dev tb0 metric 5",
        "route del 198.51.100.0/24",
        "route change default via 10.53.0.3 dev tb0",
        "-6 route del fd99::/64 table 99",
        "neigh add 10.66.0.2 lladdr 02:00:00:00:00:78 dev tb0",
        "neigh del 10.53.0.77 dev tb0",
    ):
        lab.host.check_output(["ip", *line.split()])
    on_tap = state(lab)
    assert process.stop() == 0
    after = state(lab)
    differences(on_tap, after, but=("table local", "fe80::/64", "addr: "), tap="eth0", was="tb0")
    text = "\n".join(after)
    assert "10.66.0.1/24 scope global eth0:new" in text
    assert "fd66::1/64" in text
    assert "10.66.0.0/24 dev eth0 proto kernel" in text
    for gone in ("10.77.0", "198.51.100", "fd99::", "10.53.0.77"):
        assert gone not in text
    assert "default via 10.53.0.3 dev eth0" in text


def test_a_standby_without_addresses(lab: Lab, start: Start) -> None:
    lab.up("eth0")
    process = adopt(lab, start)
    assert "nothing to adopt: the standby has no address" in process.log
    lab.address_failover()
    ping(lab, FAR_V4)
    assert process.stop() == 0
    assert addresses_of(lab, "eth0") == set()


def test_a_tap_that_is_deleted_gives_back_what_was_written_down(lab: Lab, start: Start) -> None:
    go_live(lab)
    before = state(lab)
    process = adopt(lab, start)
    lab.host.check_output(["ip", "link", "del", "tb0"])
    assert process.process.wait(10) == 1
    same_again(before, lab)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_tap_that_stays(lab: Lab, start: Start, tmp_path: Path, how: signal.Signals) -> None:
    """A persistent TAP keeps what it had, and nothing else."""
    lab.host.check_output(["ip", "tuntap", "add", "tb0", "mode", "tap", "vnet_hdr"])
    for line in ("link set tb0 up", "addr add 10.44.0.1/24 dev tb0"):
        lab.host.check_output(["ip", *line.split()])
    go_live(lab)
    before = state(lab)
    process = adopt(lab, start)
    assert addresses_of(lab, "tb0") == EVERYTHING | {"10.44.0.1"}
    process.stop(how)
    if how is signal.SIGKILL:
        tapbond(lab, tmp_path, "restore")
    assert addresses_of(lab, "tb0") == {"10.44.0.1"}
    same_again(before, lab, "dev tb0", "tb0:", "link/ether", "fe80")


def test_a_start_that_is_refused_leaves_all_as_it_was(lab: Lab, tmp_path: Path) -> None:
    """The primary is a port already: told before anything is changed."""
    go_live(lab)
    lab.host.check_output(["ip", "link", "add", "br9", "type", "bridge"])
    lab.host.check_output(["ip", "link", "set", "eth1", "master", "br9"])
    before = state(lab)
    said = tapbond(lab, tmp_path, "run", "tb0", *ADOPT, "--primary", "eth1", status=1)
    assert "eth1: already a port of br9" in said
    differences(before, state(lab))
    lab.host.check_output(["ip", "link", "set", "eth0", "master", "br9"])
    said = tapbond(lab, tmp_path, "run", "tb0", *ADOPT, status=1)
    assert "eth0: already a port of br9" in said


@pytest.mark.parametrize("moment", range(6))
def test_ctrl_c_or_a_kill_at_any_moment_of_the_start(lab: Lab, start: Start, tmp_path: Path, moment: int) -> None:
    """Not at one step each, which the unit tests do, but while the real kernel works."""
    go_live(lab)
    before = state(lab)
    how = signal.SIGKILL if moment % 2 else signal.SIGINT
    process = start(lab, *ADOPT, wait=False)
    wait_until(lambda: "restore" in process.log or "isolation chosen" in process.log)
    time.sleep(moment * 0.005)
    process.stop(how)
    tapbond(lab, tmp_path, "restore")
    same_again(before, lab)


def test_two_that_start_at_the_same_time(lab: Lab, start: Start) -> None:
    """One gets it, the other says so; nothing is lost."""
    go_live(lab)
    before = state(lab)
    both = [start(lab, *ADOPT, "--isolation", "nft", name=name, wait=False) for name in ("tb0", "tb1")]
    wait_until(lambda: any(process.process.poll() is not None for process in both), what="one to give up")
    loser, winner = sorted(both, key=lambda process: process.process.poll() is None)
    assert loser.process.poll() == 1
    assert f"already a slave of {winner.name}" in loser.last_words()
    winner.wait_ready()
    assert addresses_of(lab, winner.name) == EVERYTHING
    ping(lab, FAR_V4)
    assert winner.stop() == 0
    same_again(before, lab)


def test_two_at_once(lab: Lab, start: Start, tmp_path: Path) -> None:
    go_live(lab)
    before = state(lab)
    process = adopt(lab, start)
    said = tapbond(lab, tmp_path, "run", "tb1", *ADOPT, status=1)
    assert said.count("\n") == 1
    assert "eth0: already" in said
    assert addresses_of(lab, "tb0") == EVERYTHING
    process.stop()
    same_again(before, lab)


USER_NAMESPACE = """
set -e
ip link add eth0 type veth peer name peer
ip link set peer up
ip link set eth0 up
ip addr add 10.53.0.1/24 dev eth0
ip addr add fd53::1/64 dev eth0 nodad
ip route add default via 10.53.0.2
ip -6 route add default via fd53::2
show() { ip -o addr show dev $1 scope global; ip route show dev $1; ip -6 route show default dev $1; }
show eth0 > before
mkfifo ready
for signal in TERM KILL; do
    "$0" -m tapbond run tb0 --standby eth0 --adopt --ready-fd 3 3> ready & pid=$!
    read -r _ < ready
    show tb0 | sed s/tb0/eth0/g > adopted-$signal
    kill -$signal $pid
    wait $pid || test $signal = KILL
    test $signal = TERM || "$0" -m tapbond restore
    show eth0 > after-$signal
done
"""


def test_as_root_of_a_user_namespace(tmp_path: Path) -> None:
    """On a read-only /proc/sys."""
    mounted = 'mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec sh -c "$@"'
    outer = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-ec", mounted, "sh"]
    done = subprocess.run(
        [*outer, USER_NAMESPACE, sys.executable],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"TAPBOND_RUN_DIR": str(tmp_path / "run")},
    )
    assert done.returncode == 0, done.stdout + done.stderr

    def shown(name: str) -> list[str]:
        """Return addresses and routes without the numbers and marks that the kernel gives them."""
        text = re.sub(r"^\d+: | linkdown|\\.*", "", (tmp_path / name).read_text(), flags=re.MULTILINE)
        return sorted(line.rstrip() for line in text.splitlines())

    assert len(shown("before")) >= 4
    for name in ("adopted-TERM", "after-TERM", "adopted-KILL", "after-KILL"):
        assert shown(name) == shown("before"), name
