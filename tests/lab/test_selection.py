"""Three slaves, as in the kernel's selftest bond_options.sh (prio): who is active after each event.

host                            switch              far
tb0 10.53.0.1 fd53::1                               eth0 10.53.0.2 fd53::2
eth0 (standby, prio 0)   ── sw0 ┐
eth1 (primary)           ── sw1 ┼ br0 ── swf ────── eth0
eth2 (backup, prio 11)   ── sw2 ┘
"""

from collections.abc import Iterator

import pytest
from observe import Start

from tapbond import ControlError
from tapbond.lab import FAR_V4, FAR_V6, Lab, wait_until
from tapbond.lab.process import FailoverProcess

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping"), pytest.mark.both_paths]

THREE = ("--standby", "eth0", "--primary", "eth1", "--backup", "eth2:11")


@pytest.fixture
def three(lab: Lab) -> Iterator[Lab]:
    lab.plug("eth2")
    return lab


def active(process: FailoverProcess, slave: str | None) -> None:
    wait_until(lambda: process.status().active == slave, what=f"{slave} to be active")


def settled(process: FailoverProcess, *down: str) -> None:
    """Wait until all but ``down`` are ready, and whoever would take over has had its updelay."""
    wait_until(
        lambda: {slave.name for slave in process.status().slaves if not slave.ready} == set(down),
        what=f"all but {down} to be ready",
    )


def stays(lab: Lab, process: FailoverProcess, slave: str) -> None:
    """See that a slave is still active when a second one that could take over has long been fit to."""
    for _ in range(3):
        check_connection(lab)
        assert process.status().active == slave


def check_connection(lab: Lab) -> None:
    """bond_check_connection(): ping and ping6."""
    for address in (FAR_V4, FAR_V6):
        lab.host.check_output(["ping", "-c2", "-i0.2", "-W2", address])


@pytest.mark.parametrize(
    ("reselect", "after_eth2_up", "after_eth1_up"),
    [("always", "eth2", "eth1"), ("better", "eth0", "eth0"), ("failure", "eth0", "eth0")],
)
def test_prio_and_primary_reselect(
    three: Lab, start: Start, reselect: str, after_eth2_up: str, after_eth1_up: str
) -> None:
    """bond_options.sh, prio_test() with primary_reselect 0, 1 and 2."""
    process = start(three, *THREE, "--reselect", reselect)
    check_connection(three)
    active(process, "eth1")  # the primary
    three.down("eth1")
    active(process, "eth2")  # the higher prio
    check_connection(three)
    three.down("eth2")
    active(process, "eth0")  # the only one
    check_connection(three)
    three.up("eth2")
    settled(process, "eth1")
    active(process, after_eth2_up)
    stays(three, process, after_eth2_up)
    three.up("eth1")
    settled(process)
    active(process, after_eth1_up)
    stays(three, process, after_eth1_up)
    if reselect == "failure":
        three.down("eth0")
        active(process, "eth1")
        check_connection(three)


def test_prio_changed_while_running(three: Lab, start: Start) -> None:
    """bond_options.sh, prio_test(), its last part: a primary outranks every prio."""
    process = start(three, *THREE)
    process.call("Rank", slave="eth0", prio=1_000_000)
    process.call("Rank", slave="eth2", prio=-50)
    assert {slave.name: slave.prio for slave in process.status().slaves} == {
        "eth0": 1_000_000,
        "eth1": 0,
        "eth2": -50,
    }
    active(process, "eth1")
    three.down("eth1")
    active(process, "eth0")
    check_connection(three)


def test_sticky_stays_until_it_fails(three: Lab, start: Start) -> None:
    """teamd.conf(5), sticky: the port is not deselected while it is up."""
    process = start(three, *THREE, "--sticky", "eth2")
    three.down("eth1")
    active(process, "eth2")
    three.up("eth1")
    settled(process)
    stays(three, process, "eth2")
    three.down("eth2")
    active(process, "eth1")


def test_a_backup_comes_later_and_again(lab: Lab, start: Start) -> None:
    process = start(lab, *THREE)
    lab.plug("eth2")
    wait_until(lambda: len(process.status().slaves) == 3, what="the backup")
    lab.down("eth1")
    active(process, "eth2")
    lab.unplug("eth2")
    active(process, "eth0")
    lab.plug("eth2")
    active(process, "eth2")
    check_connection(lab)


def test_added_by_hand_with_a_prio(three: Lab, start: Start) -> None:
    process = start(three)
    process.call("AddSlave", link="eth2", role="backup", prio=7)
    (backup,) = [slave for slave in process.status().slaves if slave.name == "eth2"]
    assert (backup.role, backup.prio) == ("backup", 7)
    three.down("eth1")
    active(process, "eth2")


def test_twelve_slaves(lab: Lab, start: Start) -> None:
    names = [f"eth{number}" for number in range(2, 12)]
    for name in names:
        lab.plug(name)
    backups = [option for number, name in enumerate(names) for option in ("--backup", f"{name}:{number + 1}")]
    process = start(lab, "--standby", "eth0", "--primary", "eth1", *backups)
    for expected in ["eth1", *reversed(names), "eth0"]:
        active(process, expected)
        lab.down(expected)
    active(process, None)


def test_downdelay_waits_for_a_link_that_comes_back(lab: Lab, start: Start) -> None:
    """A loss shorter than the downdelay leads to no switchover."""
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--downdelay", "5000")
    for _ in range(3):
        lab.lose_carrier("eth1")
        wait_until(lambda: not carrier(process, "eth1"), what="the loss to be seen")
        assert process.status().active == "eth1"
        lab.restore_carrier("eth1")
        wait_until(lambda: carrier(process, "eth1"), what="the return to be seen")
    check_connection(lab)
    assert process.status().switchovers == 1


def test_downdelay_ends(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--downdelay", "300")
    lab.lose_carrier("eth1")
    wait_until(lambda: not carrier(process, "eth1"), what="the loss to be seen")
    active(process, "eth0")
    wait_until(lambda: len(process.status().last_switchovers) == 2, what="the record")
    record = process.status().last_switchovers[-1]
    assert record.cause == "carrier lost"
    assert record.decided_ns - record.detected_ns >= 300_000_000


def carrier(process: FailoverProcess, name: str) -> bool:
    return next(slave.carrier for slave in process.status().slaves if slave.name == name)


def test_hold_down_keeps_a_flapping_primary_from_flapping_the_master(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--updelay", "0", "--hold-down", "60000")
    for _ in range(5):
        lab.lose_carrier("eth1")
        wait_until(lambda: not carrier(process, "eth1"), what="the loss to be seen")
        active(process, "eth0")
        lab.restore_carrier("eth1")
        wait_until(lambda: carrier(process, "eth1"), what="the return to be seen")
    assert process.status().switchovers == 2
    lab.down("eth0")
    active(process, "eth1")  # held down, but all there is


def test_slots_kernel(three: Lab, start: Start) -> None:
    process = start(three, "--standby", "eth0", "--primary", "eth1", "--slots", "kernel")
    reason = "attempting to register as primary when eth1 is already present"
    wait_until(lambda: reason in process.log, what="the refusal")
    with pytest.raises(ControlError, match="tb0 has two slots only"):
        process.call("AddSlave", link="eth2", role="backup")
    assert {slave.name for slave in process.status().slaves} == {"eth0", "eth1"}
