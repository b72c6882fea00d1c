"""Cases of others' tests, with their expectations. docs/kernel-cases.md has the table of all that are re-created.

host                            switch              far
tb0 10.53.0.1                                       eth0 10.53.0.2
eth0 (standby)  ── sw0 ┐
eth1 (primary)  ── sw1 ┴ br0 ── swf ─────────────── eth0
"""

import json

import pytest
from observe import Start

from tapbond.lab import FAR_V4, HOST_V4, Lab, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]


def active(process: FailoverProcess, slave: str | None) -> None:
    wait_until(lambda: process.status().active == slave, what=f"{slave} to be active")


def ping(lab: Lab, count: int = 2) -> None:
    lab.host.check_output(["ping", f"-c{count}", "-i0.05", "-W2", FAR_V4])


@pytest.mark.parametrize("updelay", ["0", "30000"])
def test_mode_1_recovery_updelay(lab: Lab, start: Start, updelay: str) -> None:
    """bonding/mode-1-recovery-updelay.sh, test_bond_recovery(): the links are swapped, whatever the updelay.

    The longer one is longer than active() waits; tests/unit/test_recovery_updelay.py has those between.
    """
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--updelay", updelay)
    ping(lab)
    lab.lose_carrier("eth1")
    active(process, "eth0")
    lab.restore_carrier("eth1")
    lab.lose_carrier("eth0")
    active(process, "eth1")
    ping(lab)


def test_the_mac_moves_in_the_switchs_table(lab: Lab, start: Start) -> None:
    """grout, smoke/bond_active_backup_test.sh: the FDB entry is on p1, on p0 while p1 is down, and on p1 again."""
    process = start(lab)
    for event, slave, port in (
        (None, "eth1", "sw1"),
        (lab.lose_carrier, "eth0", "sw0"),
        (lab.restore_carrier, "eth1", "sw1"),
    ):
        if event is not None:
            event("eth1")
        active(process, slave)
        wait_until(lambda port=port: lab.switch_port_of() == port, what=f"the MAC on {port}")
        ping(lab, 3)


@pytest.mark.parametrize("order", [("eth0", "eth1"), ("eth1", "eth0")])
def test_hotplug_in_both_orders(lab: Lab, start: Start, order: tuple[str, str]) -> None:
    """QEMU, tests/qtest/virtio-net-failover.c, hotplug_1 and hotplug_2: either may come first, and go."""
    for name in ("eth0", "eth1"):
        lab.unplug(name)
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--mac", lab.mac, "--mtu", "1500", wait=False)
    wait_until(lambda: "failover created" in process.log, what="the failover without slaves")
    assert process.status().slaves == ()
    lab.plug(order[0])
    process.wait_ready()
    lab.address_failover()
    active(process, order[0])
    lab.plug(order[1])
    active(process, "eth1")
    ping(lab)
    for name in order:
        lab.unplug(name)
        active(process, next(other for other in order if other != name))
        ping(lab)
        lab.plug(name)
    active(process, "eth1")
    ping(lab)


def test_only_the_chosen_port_carries_traffic(lab: Lab, start: Start) -> None:
    """libteam, teamd_activebackup.sh: after a switch by hand nothing passes the other port, either way."""
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--announce", "1")
    ping(lab)
    for slave, port, other in (("eth0", "sw0", "sw1"), ("eth1", "sw1", "sw0")):
        process.call("Switch", slave=slave)
        active(process, slave)
        wait_until(lambda port=port: lab.switch_port_of() == port, what="the switch to learn")
        ping(lab)
        before = {name: unicast(lab, name) for name in (port, other)}
        lab.host.check_output(["ping", "-c20", "-i0.01", "-W2", FAR_V4])
        lab.far.check_output(["ping", "-c20", "-i0.01", "-W2", HOST_V4])
        gained = {name: unicast(lab, name) - before[name] for name in (port, other)}
        assert gained[port] >= 80
        assert gained[other] <= 10  # what is for everybody: ARP and IPv6 discovery, flooded to every port


def unicast(lab: Lab, port: str) -> int:
    """Return how many frames have passed a port of the switch, both ways."""
    stats = json.loads(lab.switch.check_output(["ip", "-j", "-s", "link", "show", port]))[0]["stats64"]
    return int(stats["rx"]["packets"] + stats["tx"]["packets"])
