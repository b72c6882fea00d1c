"""The lab itself, for real.

    host                          switch                       far
    eth0 (standby) ────────────── sw0 ┐
    eth1 (primary) ────────────── sw1 ┼ br0 ── swf ─────────── eth0 10.53.0.2/24 fd53::2/64

Here eth1 bears the host's addresses, as there is no failover.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tapbond.lab import (
    FAR_V4,
    MAC,
    Lab,
    Namespace,
    Pair,
    TcpStream,
    UdpFlow,
    total,
    wait_until,
    windows,
)

pytestmark = pytest.mark.namespaces

DEADLINE_S = 20.0
IFF_UP = 0x1
IFF_LOWER_UP = 0x10000


def link(namespace: Namespace, ifname: str) -> Any:
    """Return (index, flags, MAC, MTU) of a link, or None."""

    def get(ipr: Any) -> Any:
        for msg in ipr.link("dump"):
            if msg.get("ifname") == ifname:
                return msg["index"], msg["flags"], msg.get("address"), msg.get("mtu")
        return None

    return namespace.netlink(get)


def flags(namespace: Namespace, ifname: str) -> int:
    return link(namespace, ifname)[1]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def know_neighbour_for_good(lab: Lab) -> None:
    """Keep the kernel from forgetting far's MAC at a lost carrier and holding datagrams back until ARP."""
    eth1, mac = link(lab.host, "eth1")[0], link(lab.far, "eth0")[2]
    lab.host.netlink(lambda ipr: ipr.neigh("replace", dst=FAR_V4, lladdr=mac, ifindex=eth1, state="permanent"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def wired(lab: Lab) -> Lab:
    """A lab whose host speaks over eth1."""
    lab.up("eth1")
    lab.address_failover("eth1")
    return lab


def test_host_links_start_down_bare_and_with_one_mac(lab: Lab) -> None:
    for ifname in ("eth0", "eth1"):
        _, link_flags, mac, mtu = link(lab.host, ifname)
        assert not link_flags & IFF_UP
        assert (mac, mtu) == (MAC, 1500)
    assert lab.host.netlink(lambda ipr: [a for a in ipr.get_addr() if a["index"] != 1]) == []
    for port in ("sw0", "sw1", "swf", "br0"):
        assert flags(lab.switch, port) & IFF_UP


def test_mtu_is_that_of_every_link() -> None:
    with Lab(mtu=9000) as jumbo:
        assert link(jumbo.host, "eth1")[3] == 9000
        assert {link(jumbo.switch, p)[3] for p in ("sw0", "sw1", "swf", "br0")} == {9000}
        assert link(jumbo.far, "eth0")[3] == 9000
        jumbo.set_mtu("eth1", 1400)
        assert link(jumbo.host, "eth1")[3] == 1400


def test_down_and_carrier_are_two_things(lab: Lab) -> None:
    before = time.monotonic_ns()
    at = lab.up("eth1")
    assert before <= at <= time.monotonic_ns()
    wait_until(lambda: flags(lab.host, "eth1") & IFF_LOWER_UP)
    lab.lose_carrier("eth1")
    wait_until(lambda: not flags(lab.host, "eth1") & IFF_LOWER_UP)
    assert flags(lab.host, "eth1") & IFF_UP
    lab.restore_carrier("eth1")
    wait_until(lambda: flags(lab.host, "eth1") & IFF_LOWER_UP)
    lab.down("eth1")
    assert not flags(lab.host, "eth1") & IFF_UP


def test_unplugged_link_comes_back_as_another_one_with_the_same_mac(lab: Lab) -> None:
    index = link(lab.host, "eth1")[0]
    lab.unplug("eth1")
    assert link(lab.host, "eth1") is link(lab.switch, "sw1") is None
    with pytest.raises(KeyError):
        lab.down("eth1")
    lab.plug("eth1")
    again = link(lab.host, "eth1")
    assert again[0] != index
    assert again[2] == MAC
    assert not again[1] & IFF_UP
    with pytest.raises(ValueError, match="eth1: already plugged in"):
        lab.plug("eth1")


def test_link_can_be_renamed_and_another_plugged(lab: Lab) -> None:
    lab.rename("eth1", "wan0")
    lab.up("wan0")
    assert flags(lab.host, "wan0") & IFF_UP
    lab.plug("eth2", mac="02:00:00:00:00:99")
    assert link(lab.host, "eth2")[2] == "02:00:00:00:00:99"


def test_refused_change_names_the_reason(lab: Lab) -> None:
    with pytest.raises(OSError, match="File exists"):
        lab.rename("eth1", "eth0")


def test_switch_learns_where_the_mac_is_and_forgets_at_a_lost_carrier(wired: Lab) -> None:
    assert wired.switch_port_of("02:00:00:00:77:77") is None
    with UdpFlow(wired.host, wired.far, FAR_V4, 5000, rate=1000, seconds_max=60) as flow:
        flow.start()
        wait_until(lambda: flow.received)
        assert wired.switch_port_of() == "sw1"
        wired.lose_carrier("eth1")
        assert wired.switch_port_of() is None


def test_what_a_lost_carrier_costs_is_reported(wired: Lab) -> None:
    know_neighbour_for_good(wired)
    with UdpFlow(wired.host, wired.far, FAR_V4, 5000, rate=1000, seconds_max=60) as flow:
        start = flow.start()
        wait_until(lambda: flow.received >= 100)
        lost_at = wired.lose_carrier("eth1")
        mark = flow.sent
        wait_until(lambda: flow.sent >= mark + 100)
        back_at = wired.restore_carrier("eth1")
        received = flow.received
        wait_until(lambda: flow.received > received)
    record = flow.record()
    before, away, back = windows(record, [("start", start), ("lost", lost_at), ("back", back_at)])
    assert before.lost <= 1  # the one in flight
    assert away.lost == away.sent >= 99
    assert away.outage_ns >= back_at - lost_at - 2 * record.interval_ns
    assert back.first_received_after_ns is not None


def test_stream_that_cannot_connect_says_which(wired: Lab) -> None:
    wired.lose_carrier("eth1")
    stream = TcpStream(wired.host, wired.far, FAR_V4, 5001, rate=0)
    with pytest.raises(TimeoutError, match=r"no TCP connection from host to 10\.53\.0\.2 port 5001 in far"):
        stream.start(timeout=0.1)
    stream.stop()


def test_two_labs_at_once_do_not_meet(wired: Lab) -> None:
    with Lab() as other:
        other.up("eth1")
        other.address_failover("eth1")
        flows = [UdpFlow(one.host, one.far, FAR_V4, 5000, rate=1000, seconds_max=0.2) for one in (wired, other)]
        with flows[0], flows[1]:
            for flow in flows:
                flow.start()
            other.unplug("eth1")
            wait_until(lambda: all(flow.sent == 200 for flow in flows))
    assert total(flows[0].record()).lost == 0
    assert flows[0].received == 200
    assert flows[1].received < 200


def test_nothing_is_left() -> None:
    before = descriptors(), threading.active_count()
    with Lab() as lab, Pair() as pair:
        lab.host.spawn(["sleep", "1000"])
        with (
            UdpFlow(pair.host, pair.far, FAR_V4, 5000, rate=1000, seconds_max=1) as flow,
            TcpStream(pair.host, pair.far, FAR_V4, 5001, rate=0) as stream,
        ):
            flow.start()
            stream.start()
            wait_until(lambda: flow.received and stream.received)
        assert descriptors() > before[0]
    assert (descriptors(), threading.active_count()) == before


def test_works_for_root_of_a_user_namespace() -> None:
    program = (
        "from tapbond.lab import *\n"
        "with Lab() as lab:\n"
        "    lab.up('eth1')\n"
        "    lab.address_failover('eth1')\n"
        "    with TcpStream(lab.host, lab.far, FAR_V4, 5001, rate=0) as stream:\n"
        "        stream.start()\n"
        "    print(lab.switch_port_of())\n"
    )
    shown = subprocess.run(
        ["unshare", "-Urn", sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    if "unshare:" in shown.stderr:
        pytest.skip(shown.stderr.strip())
    assert shown.stdout == "sw1\n", shown.stderr
