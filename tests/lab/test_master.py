"""What is set on the failover reaches its slaves: MTU, up and down, MAC.

host                            switch              far
tb0 10.53.0.1                                       eth0 10.53.0.2
eth0 (standby)  ── sw0 ┐
eth1 (primary)  ── sw1 ┴ br0 ── swf ─────────────── eth0
"""

import pytest
from observe import Start, everything, ip_link

from tapbond.lab import FAR_V4, MAC, Lab, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "nft")]

OTHER = "02:00:00:00:00:77"


def set_link(lab: Lab, name: str, *what: str) -> None:
    lab.host.check_output(["ip", "link", "set", name, *what])


def mtus(lab: Lab) -> list[int]:
    return [ip_link(lab.host, name)["mtu"] for name in ("tb0", "eth1", "eth0")]


def macs(lab: Lab) -> list[str]:
    return [ip_link(lab.host, name)["address"] for name in ("tb0", "eth1", "eth0")]


def ping(lab: Lab, *options: str) -> None:
    lab.host.check_output(["ping", "-c1", "-W3", *options, FAR_V4])


def active(process: FailoverProcess, slave: str | None) -> None:
    wait_until(lambda: process.status().active == slave, what=f"{slave} to be active")


# MTU: net_failover_change_mtu().


def test_mtu_of_the_failover_goes_to_every_slave(lab: Lab, start: Start) -> None:
    process = start(lab)
    for mtu in (9000, 1400):
        set_link(lab, "tb0", "mtu", str(mtu))
        wait_until(lambda mtu=mtu: mtus(lab) == [mtu] * 3, what=f"MTU {mtu} everywhere")
    ping(lab, "-s", "1300", "-M", "do")
    process.stop()
    assert [ip_link(lab.host, name)["mtu"] for name in ("eth1", "eth0")] == [1500, 1500]


def test_a_plugged_in_slave_gets_the_new_mtu(lab: Lab, start: Start) -> None:
    process = start(lab)
    set_link(lab, "tb0", "mtu", "1300")
    wait_until(lambda: mtus(lab) == [1300] * 3, what="MTU 1300 everywhere")
    lab.unplug("eth1")
    active(process, "eth0")
    lab.plug("eth1")
    active(process, "eth1")
    assert mtus(lab) == [1300] * 3


def test_an_mtu_that_one_slave_does_not_take_is_taken_back_everywhere(lab: Lab, start: Start) -> None:
    """The standby is a macvlan: its MTU cannot be greater than that of the link below."""
    for command in (
        ["ip", "link", "add", "below", "type", "veth", "peer", "name", "below-far"],
        ["ip", "link", "add", "mv0", "link", "below", "address", MAC, "type", "macvlan", "mode", "bridge"],
        ["ip", "link", "set", "below", "up"],
        ["ip", "link", "set", "below-far", "up"],
    ):
        lab.host.check_output(command)
    process = start(lab, "--standby", "mv0", "--primary", "eth1", "--isolation", "nft")
    set_link(lab, "tb0", "mtu", "4000")
    wait_until(lambda: "change refused" in process.log, what="the refusal")
    wait_until(lambda: ip_link(lab.host, "tb0")["mtu"] == 1500, what="the TAP's MTU back")
    assert ip_link(lab.host, "eth1")["mtu"] == 1500
    assert ip_link(lab.host, "mv0")["mtu"] == 1500
    assert "mv0" in process.log.split("change refused")[1].split("\n")[0]
    set_link(lab, "tb0", "mtu", "1300")
    wait_until(lambda: ip_link(lab.host, "mv0")["mtu"] == 1300, what="an MTU that all take")
    ping(lab)


def test_one_slaves_own_mtu_leaves_the_rest(lab: Lab, start: Start) -> None:
    process = start(lab)
    set_link(lab, "eth0", "mtu", "1400")
    wait_until(
        lambda: {slave.mtu for slave in process.status().slaves} == {1400, 1500}, what="the change to be seen"
    )
    assert mtus(lab) == [1500, 1500, 1400]


# Up and down: net_failover_open(), net_failover_close().


def test_down_closes_the_slaves_and_up_opens_them(lab: Lab, start: Start) -> None:
    process = start(lab)
    for _ in range(3):
        set_link(lab, "tb0", "down")
        wait_until(lambda: not any(slave.up for slave in process.status().slaves), what="both closed")
        active(process, None)
        set_link(lab, "tb0", "up")
        active(process, "eth1")
        assert all("UP" in ip_link(lab.host, name)["flags"] for name in ("eth0", "eth1"))
    lab.address_failover()
    ping(lab)


def test_a_slave_that_is_plugged_in_while_the_failover_is_down_stays_closed(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.unplug("eth1")
    set_link(lab, "tb0", "down")
    wait_until(lambda: not any(slave.up for slave in process.status().slaves), what="the standby closed")
    lab.plug("eth1")
    wait_until(lambda: len(process.status().slaves) == 2, what="the primary")
    assert "UP" not in ip_link(lab.host, "eth1")["flags"]
    set_link(lab, "tb0", "up")
    active(process, "eth1")


def test_a_slave_that_does_not_open_is_reported_and_does_not_stop_the_rest(lab: Lab, start: Start) -> None:
    """A macvlan does not open while another one that is open has its MAC (macvlan_open(), EBUSY)."""
    for command in (
        ["ip", "link", "add", "below", "type", "veth", "peer", "name", "below-far"],
        ["ip", "link", "add", "mv0", "link", "below", "address", MAC, "type", "macvlan", "mode", "bridge"],
        ["ip", "link", "add", "mv1", "link", "below", "type", "macvlan", "mode", "bridge"],
        ["ip", "link", "set", "below", "up"],
    ):
        lab.host.check_output(command)
    process = start(lab, "--standby", "eth0", "--primary", "mv0", "--isolation", "nft")
    set_link(lab, "tb0", "down")
    wait_until(lambda: not any(slave.up for slave in process.status().slaves), what="both closed")
    set_link(lab, "mv1", "address", MAC)
    set_link(lab, "mv1", "up")
    set_link(lab, "tb0", "up")
    wait_until(lambda: "mv0: cannot set up" in process.log, what="the report")
    active(process, "eth0")
    lab.address_failover()
    ping(lab)


def test_slaves_that_were_up_are_up_again_although_the_failover_was_down(lab: Lab, start: Start) -> None:
    lab.up("eth1")
    process = start(lab)
    set_link(lab, "tb0", "down")
    wait_until(lambda: not any(slave.up for slave in process.status().slaves), what="both closed")
    process.stop()
    assert "UP" in ip_link(lab.host, "eth1")["flags"]
    assert "UP" not in ip_link(lab.host, "eth0")["flags"]


# MAC: --mac-policy.


def test_same_takes_a_change_of_the_failovers_mac_back(lab: Lab, start: Start) -> None:
    process = start(lab)
    set_link(lab, "tb0", "address", OTHER)
    wait_until(lambda: "change refused" in process.log, what="the refusal")
    wait_until(lambda: macs(lab) == [MAC] * 3, what="the MAC back")
    ping(lab)


def test_set_gives_each_slave_the_failovers_mac_and_its_own_back(lab: Lab, start: Start, isolation: str) -> None:
    """bond_options.sh, fail_over_mac none: all have the bond's; restored on release."""
    lab.unplug("eth1")
    lab.plug("eth1", mac=OTHER)
    lab.up("eth1")
    before = everything(lab.host)
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--mac-policy", "set", "--isolation", isolation)
    active(process, "eth1")
    assert macs(lab) == [MAC] * 3
    ping(lab)
    lab.down("eth1")
    active(process, "eth0")
    ping(lab)
    process.stop()
    wait_until(lambda: everything(lab.host) == before, what="everything as it was")


def test_set_passes_a_new_mac_on(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--mac-policy", "set")
    set_link(lab, "tb0", "address", OTHER)
    wait_until(lambda: macs(lab) == [OTHER] * 3, what="the MAC everywhere")
    wait_until(lambda: process.status().mac == OTHER, what="the status")
    ping(lab)
    lab.down("eth1")
    active(process, "eth0")
    ping(lab)
    process.stop()
    assert [ip_link(lab.host, name)["address"] for name in ("eth1", "eth0")] == [MAC, MAC]


def test_set_is_repaired_after_a_kill(lab: Lab, start: Start) -> None:
    lab.unplug("eth1")
    lab.plug("eth1", mac=OTHER)
    before = everything(lab.host)
    options = ("--standby", "eth0", "--primary", "eth1", "--mac-policy", "set")
    start(lab, *options).stop(9)
    assert ip_link(lab.host, "eth1")["address"] == MAC
    again = start(lab, *options)
    active(again, "eth1")
    assert again.stop() == 0
    assert everything(lab.host) == before


def test_follow_takes_the_active_slaves_mac(lab: Lab, start: Start) -> None:
    """bond_options.sh, fail_over_mac active: the slaves keep their own, the bond has the active one's."""
    lab.unplug("eth1")
    lab.plug("eth1", mac=OTHER)
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--mac-policy", "follow")
    active(process, "eth1")
    wait_until(lambda: macs(lab) == [OTHER, OTHER, MAC], what="the primary's MAC")
    ping(lab)
    lab.down("eth1")
    active(process, "eth0")
    wait_until(lambda: macs(lab) == [MAC, OTHER, MAC], what="the standby's MAC")
    ping(lab)
    lab.far.check_output(["ping", "-c1", "-W3", "10.53.0.1"])
    lab.up("eth1")
    active(process, "eth1")
    wait_until(lambda: macs(lab) == [OTHER, OTHER, MAC], what="the primary's MAC")
    ping(lab)


def test_a_slave_that_refuses_the_mac_is_refused(lab: Lab, start: Start) -> None:
    """A macvlan does not take a MAC that its parent or a sibling has (macvlan_addr_busy())."""
    for command in (
        ["ip", "link", "add", "below", "address", MAC, "type", "veth", "peer", "name", "below-far"],
        ["ip", "link", "set", "below", "up"],
        ["ip", "link", "add", "mv0", "link", "below", "type", "macvlan", "mode", "bridge"],
        ["ip", "link", "set", "mv0", "up"],
    ):
        lab.host.check_output(command)
    own = ip_link(lab.host, "mv0")["address"]
    process = start(
        lab, "--standby", "eth0", "--backup", "mv0", "--mac-policy", "set", "--isolation", "nft", wait=False
    )
    assert process.process.wait(20) == 1
    assert f"mv0: does not take the MAC {MAC}" in process.log
    assert ip_link(lab.host, "mv0")["address"] == own
