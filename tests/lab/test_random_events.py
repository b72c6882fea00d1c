"""Five hundred real events in a row, under traffic: meanwhile and in the end, status, kernel and counters agree.

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
from observe import Start, ip_link, link_names

from tapbond import ControlError
from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, Lab, UdpFlow, wait_until
from tapbond.lab.process import FailoverProcess

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping"), pytest.mark.both_paths]

EVENTS = 500
"""So many that change something."""
LOOK = 20
BASES = ("eth0", "eth1", "eth2", "eth3")
RANKS = ("eth1", "eth2", "eth3", "eth0")
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

    def blow(self) -> bool:
        """Let one thing happen; return whether it changed anything."""
        kinds: list[Callable[[str], bool]] = [
            *([self.down, self.up, self.lose, self.restore] * 4),
            *([self.unplug, self.plug] * 3),
            self.rename,
            self.set_mtu,
            *([self.switch] * 2),
            self.close_and_open,
        ]
        return self.chance.choice(kinds)(self.chance.choice(BASES))

    def is_up(self, name: str) -> bool:
        return "UP" in ip_link(self.lab.host, name)["flags"]

    def down(self, base: str) -> bool:
        if (name := self.plugged.get(base)) and self.is_up(name):
            self.lab.down(name)
            return True
        return False

    def up(self, base: str) -> bool:
        if (name := self.plugged.get(base)) and not self.is_up(name):
            self.lab.up(name)
            return True
        return False

    def lose(self, base: str) -> bool:
        if (name := self.plugged.get(base)) and base not in self.without_carrier:
            self.lab.lose_carrier(name)
            self.without_carrier.add(base)
            return True
        return False

    def restore(self, base: str) -> bool:
        if base not in self.without_carrier:
            return False
        self.lab.restore_carrier(self.plugged[base])
        self.without_carrier.discard(base)
        return True

    def unplug(self, base: str) -> bool:
        if name := self.plugged.pop(base, None):
            self.lab.unplug(name)
            self.without_carrier.discard(base)
            return True
        return False

    def plug(self, base: str) -> bool:
        if base in self.plugged:
            return False
        self.lab.plug(base)
        self.plugged[base] = base
        return True

    def rename(self, base: str) -> bool:
        if name := self.plugged.get(base):
            self.renames += 1
            self.plugged[base] = f"lan{self.renames}"
            self.lab.rename(name, self.plugged[base])
            return True
        return False

    def set_mtu(self, _base: str) -> bool:
        former, self.mtu = self.mtu, self.chance.choice((1300, 1400, 1500))
        self.lab.host.check_output(["ip", "link", "set", "tb0", "mtu", str(self.mtu)])
        return self.mtu != former

    def switch(self, base: str) -> bool:
        slave = self.plugged.get(base) if self.chance.random() < 0.7 else None
        former = self.process.status().active
        try:
            self.process.call("Switch", slave=slave)
        except ControlError as error:
            assert "not ready" in str(error) or "not a slave" in str(error)  # noqa: PT017  (either will do)
        return self.process.status().active != former

    def close_and_open(self, _base: str) -> bool:
        for state in ("down", "up"):
            self.lab.host.check_output(["ip", "link", "set", "tb0", state])
        return True

    def calm(self) -> None:
        """Let everything be well again."""
        for base in BASES:
            self.plug(base)
            self.restore(base)
            self.up(base)
        self.lab.host.check_output(["ip", "link", "set", "tb0", "up"])
        self.process.call("Switch", slave=None)


@pytest.mark.timeout(240)
def test_five_hundred_events(lab: Lab, start: Start, datapath: str) -> None:
    lab.plug("eth2")
    lab.plug("eth3")
    process = start(lab, *OPTIONS)
    lab.host.check_output(["ping", "-c1", "-W2", FAR_V4])
    storm = Storm(lab, process, seed=3)
    with (
        UdpFlow(lab.host, lab.far, FAR_V4, 5001, rate=2000, seconds_max=200) as out,
        UdpFlow(lab.far, lab.host, HOST_V4, 5002, rate=2000, seconds_max=200) as back,
    ):
        out.start()
        back.start()
        seen = process.status().counters
        happened = 0
        while happened < EVENTS:
            changed = storm.blow()
            happened += changed
            counters = process.status().counters
            assert counters.tx_frames >= seen.tx_frames
            assert counters.rx_frames >= seen.rx_frames
            seen = counters
            if changed and happened % LOOK == 0:
                look(process, storm, out, back)
        storm.calm()
        wait_until(lambda: all_well(process, storm), what="four ready slaves, the primary active")
        lab.address_failover()
        traffic_passes(out, back)
    for address in (FAR_V4, FAR_V6):
        lab.host.check_output(["ping", "-c1", "-W3", address])
    if datapath != "redirect":  # the TAP's own do not see what is redirected
        wait_until(lambda: agrees(lab, process), what="counters of the TAP and ours to agree at rest")
    for slave in process.status().slaves:
        link = ip_link(lab.host, slave.name)
        assert (link["ifindex"], link["mtu"], link["address"]) == (slave.ifindex, storm.mtu, lab.mac)
        assert {"UP", "LOWER_UP"} <= set(link["flags"])
    assert process.stop() == 0
    assert link_names(lab.host) == {"lo", *storm.plugged.values()}


def look(process: FailoverProcess, storm: Storm, out: UdpFlow, back: UdpFlow) -> None:
    """In the middle of it all: what the status says must be what the kernel says, and traffic must pass."""
    wait_until(lambda: as_the_kernel_says(process, storm), what="the status to be as the kernel's")
    if process.status().active is not None:
        traffic_passes(out, back)


def traffic_passes(out: UdpFlow, back: UdpFlow) -> None:
    received = out.received, back.received
    wait_until(lambda: out.received > received[0] and back.received > received[1], what="traffic both ways")


def as_the_kernel_says(process: FailoverProcess, storm: Storm) -> bool:
    """Return whether slaves, their states, the MTU, and who sends are as they should be by what ``ip`` shows."""
    links = {link["ifname"]: link for link in json.loads(storm.lab.host.check_output(["ip", "-j", "link"]))}
    status = process.status()
    running = {
        name: base
        for base, name in storm.plugged.items()
        if name in links and {"UP", "LOWER_UP"} <= set(links[name]["flags"])
    }
    best = min(running, key=lambda name: RANKS.index(running[name]), default=None)
    return (
        {slave.name for slave in status.slaves} == set(storm.plugged.values())
        and {slave.name for slave in status.slaves if slave.ready} == set(running)
        and {links[name]["mtu"] for name in (*storm.plugged.values(), "tb0")} == {status.mtu} == {storm.mtu}
        and status.active == (status.requested or best)
        and ("LOWER_UP" in links["tb0"]["flags"]) == (status.active is not None)
    )


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
