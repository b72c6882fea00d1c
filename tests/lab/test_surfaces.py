"""What a failover shows of its slaves, and they of it: statistics, speed and duplex, alias and altname.

host                                      switch        far
tb0 ═ tapbond ═ eth0 (standby) ────────── br0 ───────── eth0
                eth1 (primary) ───────────┘
                vf1 (primary: a TAP of the test's own, whose speed can be set; nobody is at its other end)
"""

import array
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from observe import Start, everything, ip_link

from tapbond import Failover
from tapbond.ethtool import DUPLEX_FULL, DUPLEX_HALF, UNKNOWN, Ethtool, LinkSpeed
from tapbond.inquiry import Inquiry
from tapbond.lab import FAR_V4, MAC, Lab, Namespace, wait_until
from tapbond.model import LINK_COUNTER_FIELDS, LinkCounters
from tapbond.tap import Tap

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "ethtool")]

NAMED = ("--standby", "eth0", "--primary", "eth1")


def sh(lab: Lab, command: str) -> str:
    return lab.host.check_output(command.split())


def shown(namespace: Namespace, link: str) -> tuple[str, str]:
    """Return speed and duplex as ethtool(8) shows them."""
    text = namespace.check_output(["ethtool", link])
    found = dict(line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)
    return found["Speed"], found["Duplex"]


def flood(lab: Lab, frames: int = 500) -> None:
    """Send echo requests to the far host, who answers each."""
    argv = ["ping", "-f", "-q", "-n", f"-c{frames}", "-s", "200", str(FAR_V4)]
    with contextlib.suppress(subprocess.CalledProcessError):
        lab.host.check_output(argv)


# Kernel behaviours relied on.


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (LinkSpeed(speed=25000, duplex=DUPLEX_FULL), ("25000Mb/s", "Full")),
        (LinkSpeed(speed=100, duplex=DUPLEX_HALF), ("100Mb/s", "Half")),
        (UNKNOWN, ("Unknown!", "Unknown! (255)")),
    ],
)
def test_a_tap_tells_the_speed_that_it_was_given(lab: Lab, speed: LinkSpeed, text: tuple[str, str]) -> None:
    with (
        contextlib.closing(lab.host.run(Tap, "tb0")),
        contextlib.closing(Ethtool(lab.host.socket)) as ethtool,
    ):
        index = lab.host.index_of("tb0")
        ethtool.write(index, speed)
        assert shown(lab.host, "tb0") == text
        assert ethtool.read(index) == speed
        assert ethtool.read(12345) == UNKNOWN
        assert ethtool.read(1) == UNKNOWN  # the loopback's driver has none
        with pytest.raises(OSError, match="No such device"):
            ethtool.write(12345, speed)


def test_a_link_that_is_deleted_tells_its_last_counters(lab: Lab) -> None:
    with lab.host.socket(16, 3, 0) as news:
        lab.host.run(news.bind, (0, 1))
        news.settimeout(10)
        lab.unplug("eth1")
        while True:
            data = news.recv(1 << 16)
            if int.from_bytes(data[4:6], "little") == 17:
                break
    attributes = array.array("H", data[32:])
    assert 23 in attributes  # IFLA_STATS64


def test_an_inquiry_reads_the_counters_that_ip_shows(lab: Lab) -> None:
    lab.address_failover("eth1")
    flood(lab, 100)
    with contextlib.closing(Inquiry(lab.host.socket)) as inquiry:
        index = lab.host.index_of("eth1")

        def agree() -> bool:
            counters = inquiry.counters(index)
            (shown,) = json.loads(sh(lab, "ip -j -s link show eth1"))
            told = shown["stats64"]
            assert counters is not None
            return (counters.tx_packets, counters.rx_bytes) == (told["tx"]["packets"], told["rx"]["bytes"])

        wait_until(agree, what="the same counters")
        counters = inquiry.counters(index)
    assert counters is not None
    assert counters.tx_packets >= 100
    assert counters.rx_bytes >= 100 * 200


# Statistics.


def tap_counters(lab: Lab) -> tuple[int, int]:
    """Return frames sent and received as ``ip -s link`` shows them."""
    (shown,) = json.loads(sh(lab, "ip -j -s link show tb0"))
    return shown["stats64"]["tx"]["packets"], shown["stats64"]["rx"]["packets"]


def assert_not_less(before: LinkCounters, after: LinkCounters) -> None:
    for field in LINK_COUNTER_FIELDS:
        assert getattr(after, field) >= getattr(before, field), field


def test_counters_of_the_tap_and_of_the_slaves_agree_at_rest(lab: Lab, start: Start) -> None:
    process = start(lab, *NAMED)
    flood(lab)

    def agree() -> bool:
        (sent, received), status = tap_counters(lab), process.status()
        ours, links = status.counters, status.links
        return (
            sent == ours.tx_frames + ours.tx_dropped
            and received == ours.rx_frames
            and abs(links.tx_packets - ours.announced - ours.tx_frames) <= 2
            and links.rx_packets >= ours.rx_frames
        )

    wait_until(agree, what="the counters to agree")
    status = process.status()
    assert status.links.tx_packets >= 500
    assert status.links.tx_bytes >= 500 * 200


def test_folded_counters_never_run_backwards(lab: Lab, start: Start) -> None:
    process = start(lab, *NAMED)
    last = process.status().links
    changes: tuple[Callable[[str], int], ...] = (
        lab.unplug,
        lab.plug,
        lab.down,
        lab.up,
        lab.lose_carrier,
        lab.restore_carrier,
    )
    for change in changes * 2:
        flood(lab, 100)
        now = process.status().links
        assert_not_less(last, now)
        assert now.tx_packets >= last.tx_packets + 100
        before = process.status().counters
        change("eth1")
        after = process.status()
        assert_not_less(now, after.links)
        assert after.counters.tx_frames >= before.tx_frames
        last = after.links
        wait_until(lambda: process.status().carrier, what="the carrier")


def test_what_a_slave_had_counted_before_is_not_the_failovers(lab: Lab, start: Start) -> None:
    lab.up("eth1")
    lab.host.check_output(["ip", "addr", "add", "10.53.0.77/24", "dev", "eth1"])
    flood(lab, 300)
    lab.host.check_output(["ip", "addr", "del", "10.53.0.77/24", "dev", "eth1"])
    process = start(lab, *NAMED)
    assert process.status().links.tx_packets < 300


def test_what_a_link_counted_until_it_was_unplugged_is_not_lost(lab: Lab, start: Start) -> None:
    process = start(lab, *NAMED)
    before = process.status().links.tx_packets
    flood(lab, 400)
    lab.unplug("eth1")
    wait_until(lambda: process.status().active == "eth0", what="the switchover")
    assert process.status().links.tx_packets >= before + 400


def test_status_shows_them(lab: Lab, start: Start, tmp_path: Path) -> None:
    start(lab, *NAMED)
    command = [sys.executable, "-m", "tapbond", "status", "tb0", "--run-dir", str(tmp_path)]
    assert "    links: tx " in lab.host.check_output(command)
    assert '"links":{"rx_packets":' in lab.host.check_output([*command, "--json"])


async def test_the_last_counters_can_be_read_after_the_end(lab: Lab, tmp_path: Path) -> None:
    """Through the library, in a thread of the namespace."""

    def live() -> tuple[LinkCounters, LinkCounters]:
        async def main() -> tuple[LinkCounters, LinkCounters]:
            async with Failover("tb0", standby="eth0", primary="eth1", run_dir=tmp_path) as failover:
                await failover.ready.wait()
                await failover.refresh()
                before = failover.status().links
            await failover.refresh()
            return before, failover._parts.surface.counters

        return asyncio.run(main())

    before, after = await asyncio.to_thread(lab.host.run, live)
    assert_not_less(before, after)


# Speed and duplex.


@contextlib.contextmanager
def plugged_vf(lab: Lab, speed: int) -> Iterator[Tap]:
    """A further link with the failover's MAC, whose speed is that of a TAP."""
    with contextlib.closing(lab.host.run(Tap, "vf1")) as tap:
        sh(lab, f"ethtool -s vf1 speed {speed} duplex full")
        tap.set_carrier(True)
        sh(lab, f"ip link set vf1 address {MAC}")
        yield tap


def test_the_failover_is_as_fast_as_its_active_slave(lab: Lab, start: Start) -> None:
    lab.unplug("eth1")
    process = start(lab, "--standby", "eth0", "--primary", "vf1")
    wait_until(lambda: shown(lab.host, "tb0") == ("10000Mb/s", "Full"), what="the standby's speed")
    with plugged_vf(lab, 25000) as vf:
        wait_until(lambda: process.status().active == "vf1", what="vf1 to be active")
        wait_until(lambda: shown(lab.host, "tb0") == ("25000Mb/s", "Full"), what="the primary's speed")
        speeds = {slave.name: (slave.speed, slave.full_duplex) for slave in process.status().slaves}
        assert speeds == {"eth0": (10000, True), "vf1": (25000, True)}
        vf.set_carrier(False)
        wait_until(lambda: shown(lab.host, "tb0") == ("10000Mb/s", "Full"), what="the standby's speed again")
        sh(lab, "ethtool -s vf1 speed 40000 duplex half")
        vf.set_carrier(True)
        wait_until(lambda: shown(lab.host, "tb0") == ("40000Mb/s", "Half"), what="its new speed")
        process.call("Switch", slave="eth0")
        wait_until(lambda: shown(lab.host, "tb0") == ("10000Mb/s", "Full"), what="the speed of the chosen one")
    lab.lose_carrier("eth0")
    wait_until(lambda: shown(lab.host, "tb0")[0] == "Unknown!", what="no speed, where nobody is active")


@pytest.mark.parametrize(("speed", "active"), [(25000, "vf1"), (1000, "eth0")])
def test_reselect_better_takes_the_faster_link(lab: Lab, start: Start, speed: int, active: str) -> None:
    """bonding.rst, primary_reselect=better: a primary that comes back takes over only if it is faster."""
    lab.unplug("eth1")
    with plugged_vf(lab, speed) as vf:
        process = start(lab, "--standby", "eth0", "--primary", "vf1", "--reselect", "better")
        wait_until(lambda: process.status().active == "vf1", what="the primary at first")
        vf.set_carrier(False)
        wait_until(lambda: process.status().active == "eth0", what="the standby")
        vf.set_carrier(True)
        wait_until(
            lambda: all(slave.ready for slave in process.status().slaves) and process.status().active == active,
            what=f"{active} to be active",
        )


# Alias and altname.


def label(lab: Lab, slave: str) -> tuple[str, list[str]]:
    found = ip_link(lab.host, slave)
    return found.get("ifalias", ""), found.get("altnames", [])


def labels(lab: Lab, *slaves: str) -> list[tuple[str, list[str]]]:
    return [label(lab, slave) for slave in slaves]


def test_slaves_say_whose_they_are_and_in_which_role(lab: Lab, start: Start) -> None:
    before = everything(lab.host)
    process = start(lab, "--standby", "eth0", "--backup", "eth1:5")
    assert labels(lab, "eth0", "eth1") == [
        ("tapbond tb0: standby", ["tb0-standby"]),
        ("tapbond tb0: backup", ["tb0-backup-eth1"]),
    ]
    assert ip_link(lab.host, "tb0-standby")["ifname"] == "eth0"
    process.stop()
    assert everything(lab.host) == before


def test_their_own_alias_and_names_come_back(lab: Lab, start: Start) -> None:
    sh(lab, "ip link set eth1 alias uplink")
    sh(lab, "ip link property add dev eth1 altname mine")
    before = everything(lab.host)
    process = start(lab, *NAMED)
    alias, names = label(lab, "eth1")
    assert alias == "tapbond tb0: primary"
    assert sorted(names) == ["mine", "tb0-primary"]
    process.call("RemoveSlave", slave="eth1")
    assert label(lab, "eth1") == ("uplink", ["mine"])
    process.stop()
    assert everything(lab.host) == before


def test_a_killed_process_labels_are_taken_off_by_the_next(lab: Lab, start: Start) -> None:
    sh(lab, "ip link set eth1 alias uplink")
    before = everything(lab.host)
    start(lab, *NAMED).stop(signal.SIGKILL)
    assert label(lab, "eth1")[1] == ["tb0-primary"]
    again = start(lab, *NAMED)
    assert label(lab, "eth1") == ("tapbond tb0: primary", ["tb0-primary"])
    again.stop()
    assert everything(lab.host) == before


def test_a_name_that_is_taken_is_left_where_it_is(lab: Lab, start: Start) -> None:
    sh(lab, "ip link add other type bridge")
    sh(lab, "ip link property add dev other altname tb0-primary")
    sh(lab, "ip link property add dev eth0 altname tb0-standby")
    before = everything(lab.host)
    process = start(lab, *NAMED)
    assert label(lab, "eth1") == ("tapbond tb0: primary", [])
    assert "cannot add the name tb0-primary" in process.log
    process.stop()
    assert everything(lab.host) == before


def test_a_primary_plugged_in_again_is_labelled_again(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0")
    wait_until(lambda: process.status().active == "eth1", what="the primary")
    lab.unplug("eth1")
    lab.plug("eth1")
    wait_until(lambda: process.status().active == "eth1", what="the primary again")
    assert label(lab, "eth1") == ("tapbond tb0: primary", ["tb0-primary"])
