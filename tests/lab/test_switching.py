"""Numbered traffic through every kind of switchover: what is lost, what comes twice, what is told.

host                     switch           far
tb0 ═ numbered UDP ══════════════════════ eth0
eth0 (standby) ── sw0 ┐
eth1 (primary) ── sw1 ┴ br0
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from observe import Start, ip_link

from tapbond import Event, Switchover
from tapbond.lab import FAR_V4, HOST_V4, FlowRecord, Lab, UdpFlow, total, wait_until
from tapbond.lab.process import FailoverProcess
from tapbond.lab.report import Window

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping"), pytest.mark.both_paths]


RATE = 5000


class Traffic:
    """Numbered UDP both ways, while open."""

    def __init__(self, lab: Lab, rate: int) -> None:
        lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])
        lab.far.check_output(["ping", "-c1", "-W2", str(HOST_V4)])
        self.tx = UdpFlow(lab.host, lab.far, FAR_V4, 5001, rate=rate, seconds_max=60)
        self.rx = UdpFlow(lab.far, lab.host, HOST_V4, 5002, rate=rate, seconds_max=60)

    def pass_frames(self, count: int = 500) -> None:
        """Wait until so many more have arrived each way."""
        before = self.tx.received, self.rx.received
        wait_until(
            lambda: self.tx.received >= before[0] + count and self.rx.received >= before[1] + count,
            what=f"{count} frames each way",
        )

    def totals(self) -> tuple[Window, Window]:
        return total(self.tx.record()), total(self.rx.record())


@contextmanager
def traffic(lab: Lab, rate: int = RATE) -> Iterator[Traffic]:
    flows = Traffic(lab, rate)
    with flows.tx, flows.rx:
        flows.tx.start()
        flows.rx.start()
        flows.pass_frames()
        yield flows
        flows.pass_frames()


def records(process: FailoverProcess, count: int) -> list[Switchover]:
    """Return the records, when there are so many; each is complete within a second."""
    wait_until(lambda: len(process.status().last_switchovers) >= count, what=f"{count} records")
    return list(process.status().last_switchovers)


def becomes_active(process: FailoverProcess, slave: str | None) -> None:
    wait_until(lambda: process.status().active == slave, what=f"{slave} to be active")


@pytest.mark.two_queues
def test_planned_switch_loses_nothing(lab: Lab, start: Start, isolation: str) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    with traffic(lab) as flows:
        for _ in range(10):
            for slave in ("eth0", "eth1"):
                process.call("Switch", slave=slave)
                flows.pass_frames(200)
    for direction in flows.totals():
        assert (direction.lost, direction.duplicated) == (0, 0)


@pytest.mark.two_queues
def test_return_of_the_primary_loses_nothing(lab: Lab, start: Start, isolation: str) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    lab.down("eth1")
    becomes_active(process, "eth0")
    with traffic(lab) as flows:
        lab.up("eth1")
        becomes_active(process, "eth1")
    for direction in flows.totals():
        assert (direction.lost, direction.duplicated) == (0, 0)
    assert records(process, 3)[-1].cause == "primary ready"


@pytest.mark.two_queues
def test_replug_loses_and_doubles_nothing(lab: Lab, start: Start, isolation: str) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    lab.unplug("eth1")
    becomes_active(process, "eth0")
    with traffic(lab) as flows:
        lab.plug("eth1")
        becomes_active(process, "eth1")
    for direction in flows.totals():
        assert (direction.lost, direction.duplicated) == (0, 0)


@pytest.mark.two_queues
def test_primary_set_down_loses_nothing_that_was_sent(lab: Lab, start: Start, datapath: str) -> None:
    """The pump sends again what a link refuses. What is redirected to it is lost until tc has changed."""
    process = start(lab)
    with traffic(lab) as flows:
        lab.down("eth1")
        becomes_active(process, "eth0")
    tx, rx = flows.totals()
    assert tx.lost == 0 or datapath == "redirect"
    assert (tx.duplicated, rx.duplicated) == (0, 0)
    record = records(process, 2)[-1]
    assert (record.from_slave, record.to_slave, record.cause) == ("eth1", "eth0", "set down")
    assert record.detected_ns <= (record.first_tx_ns or 0)
    assert record.dropped <= tx.lost


@pytest.mark.two_queues
def test_unplug_loses_nothing_that_was_sent(lab: Lab, start: Start, datapath: str) -> None:
    process = start(lab)
    with traffic(lab) as flows:
        lab.unplug("eth1")
        becomes_active(process, "eth0")
    tx, rx = flows.totals()
    assert tx.lost <= 1 or datapath == "redirect"  # a frame inside the veth that was deleted is gone with it
    assert (tx.duplicated, rx.duplicated) == (0, 0)
    record = records(process, 2)[-1]
    assert (record.from_slave, record.to_slave, record.cause) == ("eth1", "eth0", "unplugged")


@pytest.mark.two_queues
def test_carrier_lost(lab: Lab, start: Start) -> None:
    process = start(lab)
    with traffic(lab) as flows:
        lab.lose_carrier("eth1")
        becomes_active(process, "eth0")
    tx, rx = flows.totals()
    assert (tx.duplicated, rx.duplicated) == (0, 0)
    record = records(process, 2)[-1]
    assert record.cause == "carrier lost"
    assert record.detector in ("netlink", "pump", "poll")
    assert record.detected_ns <= record.decided_ns


@pytest.mark.two_queues
def test_the_switch_learns_without_traffic(lab: Lab, start: Start) -> None:
    """The announcement alone moves the MAC in the switch's table."""
    process = start(lab)
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])
    assert lab.switch_port_of() == "sw1"
    process.call("Switch", slave="eth0")
    wait_until(lambda: lab.switch_port_of() == "sw0", what="the switch to learn")
    process.call("Switch", slave=None)
    wait_until(lambda: lab.switch_port_of() == "sw1", what="the switch to learn")


@pytest.mark.two_queues
def test_an_announcement_survives_a_stale_error(lab: Lab, start: Start) -> None:
    """A standby that was down for a moment has ENETDOWN waiting on its socket when it is switched to."""
    process = start(lab)
    for _ in range(3):
        lab.down("eth0")
        lab.up("eth0")
        wait_until(lambda: all(slave.ready for slave in process.status().slaves), what="both ready")
        process.call("Switch", slave="eth0")
        wait_until(lambda: lab.switch_port_of() == "sw0", what="the switch to learn")
        process.call("Switch", slave=None)
        wait_until(lambda: lab.switch_port_of() == "sw1", what="the switch to learn")


@pytest.mark.two_queues
def test_both_slaves_gone_and_back(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.lose_carrier("eth1")
    lab.down("eth0")
    becomes_active(process, None)
    wait_until(lambda: "NO-CARRIER" in ip_link(lab.host, "tb0")["flags"], what="the carrier to be off")
    lab.up("eth0")
    becomes_active(process, "eth0")
    wait_until(lambda: "LOWER_UP" in ip_link(lab.host, "tb0")["flags"], what="the carrier")
    lab.restore_carrier("eth1")
    becomes_active(process, "eth1")
    lab.host.check_output(["ping", "-c1", "-W2", str(FAR_V4)])


def test_manual_switch_holds_until_the_slave_fails(lab: Lab, start: Start) -> None:
    process = start(lab)
    process.call("Switch", slave="eth0")
    lab.down("eth1")
    lab.up("eth1")
    wait_until(lambda: all(slave.ready for slave in process.status().slaves), what="both ready")
    assert (process.status().active, process.status().requested) == ("eth0", "eth0")
    lab.down("eth0")
    becomes_active(process, "eth1")
    lab.up("eth0")
    wait_until(lambda: all(slave.ready for slave in process.status().slaves), what="both ready")
    assert (process.status().active, process.status().requested) == ("eth1", None)


def test_rx_kernel_has_the_drivers_black_hole(lab: Lab, start: Start) -> None:
    """A primary that is registered but has no carrier: nothing that the standby receives is delivered."""
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--rx", "kernel")
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])
    lab.lose_carrier("eth1")
    becomes_active(process, "eth0")
    ping = f"ping -c2 -i0.2 -W1 {FAR_V4} || test $? = 1"
    assert "100% packet loss" in lab.host.check_output(["sh", "-c", ping])
    lab.unplug("eth1")
    wait_until(lambda: len(process.status().slaves) == 1, what="the unplug")
    assert " 0% packet loss" in lab.host.check_output(["ping", "-c2", "-i0.2", "-W1", str(FAR_V4)])


def test_rx_any_hears_every_slave(lab: Lab, start: Start) -> None:
    """With rx=any a broadcast comes once a slave."""
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--rx", "any", "--datapath", "copy")
    lab.host.check_output(["ping", "-c2", "-i0.1", str(FAR_V4)])
    lab.far.check_output(["sh", "-c", "arping -c1 -w1 -I eth0 10.53.0.77 || true"])
    wait_until(lambda: all(slave.counters.rx_frames for slave in process.status().slaves), what="both to hear")


@pytest.mark.two_queues
def test_counters_never_run_backwards(lab: Lab, start: Start) -> None:
    """The driver's do: at unplug and when both go down (rx 276 to 6). Ours are sums over all slaves that were."""
    process = start(lab)
    seen = process.status().counters
    with traffic(lab):
        for event in (lab.down, lab.up, lab.unplug, lab.plug, lab.lose_carrier, lab.restore_carrier):
            event("eth1")
            for _ in range(5):
                now = process.status().counters
                assert now.tx_frames >= seen.tx_frames
                assert now.rx_frames >= seen.rx_frames
                assert now.tx_bytes >= seen.tx_bytes
                seen = now


def test_counters_agree_with_the_tap(lab: Lab, start: Start) -> None:
    """On the redirect path the TAP's own do not count: see test_redirect.py."""
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--datapath", "copy")
    with traffic(lab) as flows:
        lab.unplug("eth1")
        flows.pass_frames()

    def agrees() -> bool:
        tap = ip_stats(lab)
        counters = process.status().counters
        return tap == (counters.tx_frames + counters.tx_dropped, counters.rx_frames)

    wait_until(agrees, what="the TAP's counters and ours to agree at rest")


def ip_stats(lab: Lab) -> tuple[int, int]:
    link = json.loads(lab.host.check_output(["ip", "-j", "-s", "link", "show", "tb0"]))[0]["stats64"]
    return link["tx"]["packets"], link["rx"]["packets"]


def test_a_record_is_the_same_in_the_log_the_event_stream_and_the_status(
    lab: Lab, start: Start, tmp_path: Path
) -> None:
    process = start(lab)
    becomes_active(process, "eth1")
    (first,) = records(process, 1)
    stream = tmp_path / "events"
    command = [sys.executable, "-m", "tapbond", "monitor", "tb0", "--json", "--run-dir", str(tmp_path)]
    with stream.open("w") as out, lab.host.spawn(command, stdout=out) as monitor:

        def heard() -> list[Switchover]:
            events = [msgspec.json.decode(line, type=Event) for line in stream.read_text().splitlines()]
            return [event for event in events if isinstance(event, Switchover)]

        def switched() -> bool:
            process.call("Switch", slave="eth0" if process.status().active == "eth1" else "eth1")
            return bool(heard())

        wait_until(switched, what="the monitor to hear a switchover")
        lab.down(process.status().active or "")
        wait_until(lambda: heard()[-1].cause == "set down", what="the last record in the stream")
        monitor.terminate()
    record = heard()[-1]
    assert record in process.status().last_switchovers
    assert record.serial > first.serial
    (line,) = [line for line in process.log.splitlines() if f" serial={record.serial} " in f"{line} "]
    said = [f"{name}={value}" for name, value in msgspec.structs.asdict(record).items() if " " not in str(value)]
    assert [field for field in said if field not in line.split()] == []


def test_a_slave_is_removed_under_load_a_hundred_times(lab: Lab, start: Start) -> None:
    """The link itself stays up, or the switch's port would need a moment to forward again each time.

    What the far end sends may go astray: a link that was given back speaks for itself, from the same MAC.
    """
    lab.up("eth1")
    process = start(lab)
    far = ["ip", "neigh", "replace", FAR_V4, "lladdr", ip_link(lab.far, "eth0")["address"], "nud", "permanent"]
    lab.host.check_output([*far, "dev", "tb0"])  # so that no answer to an ARP request goes astray
    with traffic(lab) as flows:
        descriptors = open_descriptors(process)
        for _ in range(100):
            process.call("RemoveSlave", slave="eth1")
            process.call("AddSlave", link="eth1", role="primary")
        becomes_active(process, "eth1")
        wait_until(lambda: open_descriptors(process) == descriptors, what="as many descriptors as before")
    tx, rx = flows.totals()
    assert (tx.lost, tx.duplicated, rx.duplicated) == (0, 0, 0)


def open_descriptors(process: FailoverProcess) -> int:
    return len(os.listdir(f"/proc/{process.process.pid}/fd"))


def test_flow_records_are_what_they_seem(lab: Lab, start: Start) -> None:
    """The instrument itself loses nothing."""
    start(lab)
    with traffic(lab) as flows:
        flows.pass_frames()
    record: FlowRecord = flows.tx.record()
    assert record.instrument_lost == 0
