"""Five hundred real events in a row, under traffic; then everything must agree: status, kernel and counters.

host                                    switch              far
tb0 ═ numbered UDP both ways ══════════════════════════════ eth0
eth0 (standby)              ── sw0 ┐
eth1 (primary)              ── sw1 ┤
eth2 eth3 (backups 20, 10)  ── sw… ┴ br0 ── swf ─────────── eth0
"""

import json
import random
from typing import TYPE_CHECKING

import pytest
from observe import Start, ip_link

from tapbond import ControlError
from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, Lab, UdpFlow, wait_until
from tapbond.lab.process import FailoverProcess

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

EVENTS = 500
BASES = ("eth0", "eth1", "eth2", "eth3")
OPTIONS = ("--standby", "eth0", "--primary", "eth1", "--backup", "eth2:20", "--backup", "eth3:10")


class Storm:
    """Whatever a network may do to a failover, at random."""

    def __init__(self, lab: Lab, process: FailoverProcess, seed: int) -> None:
        self.lab = lab
        self.process = process
        self.chance = random.Random(seed)  # noqa: S311  (the same storm every time)
        self.plugged = {base: base for base in BASES}
        """The name of each link now, by that which it was plugged in with."""
        self.without_carrier: set[str] = set()
        self.renames = 0
        self.mtu = 1500

    def blow(self) -> None:
        """Let one thing happen."""
        kinds: list[Callable[[str], None]] = [
            *([self.down, self.up, self.lose, self.restore] * 4),
            *([self.unplug, self.plug] * 3),
            self.rename,
            self.set_mtu,
            *([self.switch] * 2),
            self.close_and_open,
        ]
        self.chance.choice(kinds)(self.chance.choice(BASES))

    def down(self, base: str) -> None:
        if name := self.plugged.get(base):
            self.lab.down(name)

    def up(self, base: str) -> None:
        if name := self.plugged.get(base):
            self.lab.up(name)

    def lose(self, base: str) -> None:
        if name := self.plugged.get(base):
            self.lab.lose_carrier(name)
            self.without_carrier.add(base)

    def restore(self, base: str) -> None:
        if base in self.without_carrier:
            self.lab.restore_carrier(self.plugged[base])
            self.without_carrier.discard(base)

    def unplug(self, base: str) -> None:
        if name := self.plugged.pop(base, None):
            self.lab.unplug(name)
            self.without_carrier.discard(base)

    def plug(self, base: str) -> None:
        if base not in self.plugged:
            self.lab.plug(base)
            self.plugged[base] = base

    def rename(self, base: str) -> None:
        if name := self.plugged.get(base):
            self.renames += 1
            self.plugged[base] = f"lan{self.renames}"
            self.lab.rename(name, self.plugged[base])

    def set_mtu(self, _base: str) -> None:
        self.mtu = self.chance.choice((1300, 1400, 1500))
        self.lab.host.check_output(["ip", "link", "set", "tb0", "mtu", str(self.mtu)])

    def switch(self, base: str) -> None:
        slave = self.plugged.get(base) if self.chance.random() < 0.7 else None
        try:
            self.process.call("Switch", slave=slave)
        except ControlError as error:
            assert "not ready" in str(error) or "not a slave" in str(error)  # noqa: PT017  (either will do)

    def close_and_open(self, _base: str) -> None:
        for state in ("down", "up"):
            self.lab.host.check_output(["ip", "link", "set", "tb0", state])

    def calm(self) -> None:
        """Let everything be well again."""
        for base in BASES:
            self.plug(base)
            self.restore(base)
            self.up(base)
        self.lab.host.check_output(["ip", "link", "set", "tb0", "up"])
        self.process.call("Switch", slave=None)


@pytest.mark.timeout(180)
def test_five_hundred_events(lab: Lab, start: Start) -> None:
    lab.plug("eth2")
    lab.plug("eth3")
    process = start(lab, *OPTIONS)
    lab.host.check_output(["ping", "-c1", "-W2", FAR_V4])
    storm = Storm(lab, process, seed=3)
    with (
        UdpFlow(lab.host, lab.far, FAR_V4, 5001, rate=2000, seconds_max=170) as out,
        UdpFlow(lab.far, lab.host, HOST_V4, 5002, rate=2000, seconds_max=170) as back,
    ):
        out.start()
        back.start()
        seen = process.status().counters
        for _ in range(EVENTS):
            storm.blow()
            status = process.status()
            active = [slave for slave in status.slaves if slave.active]
            assert [slave.name for slave in active] == ([status.active] if status.active else [])
            assert status.counters.tx_frames >= seen.tx_frames
            assert status.counters.rx_frames >= seen.rx_frames
            seen = status.counters
        storm.calm()
        wait_until(lambda: all_well(process, storm), what="four ready slaves, the primary active")
        received = out.received, back.received
        lab.address_failover()
        wait_until(lambda: out.received > received[0] and back.received > received[1], what="traffic both ways")
    for address in (FAR_V4, FAR_V6):
        lab.host.check_output(["ping", "-c1", "-W3", address])
    wait_until(lambda: agrees(lab, process), what="counters of the TAP and ours to agree at rest")
    status = process.status()
    for slave in status.slaves:
        link = ip_link(lab.host, slave.name)
        assert (link["ifindex"], link["mtu"], link["address"]) == (slave.ifindex, storm.mtu, lab.mac)
        assert {"UP", "LOWER_UP"} <= set(link["flags"])
    assert ip_link(lab.host, "tb0")["mtu"] == status.mtu == storm.mtu
    assert process.stop() == 0
    assert {link["ifname"] for link in json.loads(lab.host.check_output(["ip", "-j", "link"]))} == {
        "lo",
        *storm.plugged.values(),
    }


def all_well(process: FailoverProcess, storm: Storm) -> bool:
    status = process.status()
    ready = {slave.name for slave in status.slaves if slave.ready}
    return status.active == storm.plugged["eth1"] and ready == set(storm.plugged.values())


def agrees(lab: Lab, process: FailoverProcess) -> bool:
    stats = json.loads(lab.host.check_output(["ip", "-j", "-s", "link", "show", "tb0"]))[0]["stats64"]
    counters = process.status().counters
    return (stats["tx"]["packets"], stats["rx"]["packets"]) == (
        counters.tx_frames + counters.tx_dropped,
        counters.rx_frames,
    )
