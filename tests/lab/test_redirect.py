"""The redirect path: what only it does, and every behaviour of the kernel's tc that it relies on, alone.

host                              switch           far
tb0 ──┐ filters of one tc block ┌────────────────── eth0
eth0 ─┤ (standby)               ├ sw0 ┐
eth1 ─┘ (primary)               └ sw1 ┴ br0

What of the failover is the same on both paths is tested on both: see the fixture ``datapath`` of other files.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from observe import ETH_P_ALL, Start, Wire, everything, raw
from test_switching import becomes_active, traffic

from tapbond.datapath.classifier import CLASSIFIERS, EVERYTHING, Classifier, Match
from tapbond.datapath.tc import Place, Redirect, Tc
from tapbond.datapath.wiring import PARKED, Wiring, blocks_of
from tapbond.errors import TapbondError
from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, Lab, Namespace, TcpStream, UdpFlow, total, wait_until
from tapbond.lab.process import FailoverProcess
from tapbond.model import Link
from tapbond.tap import Tap

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

BLOCK = 77
RATE = 10_000
FRAME = b"\xff" * 6 + bytes.fromhex("020000000053") + b"\x88\xb5" + bytes(60)


@pytest.fixture
def datapath() -> str:
    return "redirect"


@pytest.fixture(params=CLASSIFIERS, ids=lambda classifier: str(classifier.kind))
def classifier(request: pytest.FixtureRequest) -> Classifier:
    made: Classifier = request.param
    return made


# What the kernel does.


@contextmanager
def a_tap(lab: Lab, name: str = "tbk0") -> Iterator[int]:
    """Make a TAP that is up, with carrier and no address, in the host; give its ifindex."""
    tap = lab.host.run(Tap, name)
    try:
        index = lab.host.index_of(name)
        lab.host.netlink(lambda ipr: ipr.link("set", index=index, state="up"))
        tap.set_carrier(True)
        yield index
    finally:
        tap.close()


@contextmanager
def receiving(lab: Lab, link: str, tap: int, classifier: Classifier) -> Iterator[Tc]:
    """Redirect what a link receives to the TAP."""
    index = lab.host.index_of(link)
    with closing(lab.host.run(Tc)) as tc:
        tc.add_qdisc(link, index, BLOCK)
        to = Redirect(ifindex=tap, ingress=True)
        lab.host.run(tc.put, link, classifier, Place(block=BLOCK), Match(ifindex=index), to)
        yield tc


def arrives(lab: Lab, link: str, frame: bytes = FRAME) -> bool:
    """Tell whether a frame of the far host is received on a link."""
    with Wire(lab.host, link, lambda found: found[: len(frame)] == frame) as wire, raw(lab.far, "eth0") as far:

        def seen() -> bool:
            far.send(bytes(10) + frame)
            return bool(wire.frames)

        try:
            return wait_until(seen, timeout=2, what="the frame")
        except TimeoutError:
            return False


def test_what_a_link_receives_is_received_by_the_tap(lab: Lab, classifier: Classifier) -> None:
    lab.up("eth1")
    with a_tap(lab) as tap, receiving(lab, "eth1", tap, classifier):
        assert arrives(lab, "tbk0")


def test_a_packet_socket_sees_a_frame_before_tc_takes_it(lab: Lab, classifier: Classifier) -> None:
    """Why every gate of the pump is shut while frames are redirected: they would come twice."""
    lab.up("eth1")
    with a_tap(lab) as tap, receiving(lab, "eth1", tap, classifier):
        assert arrives(lab, "eth1")


def test_what_is_matched_by_no_filter_goes_its_usual_way(lab: Lab, classifier: Classifier) -> None:
    lab.up("eth1")
    lab.host.check_output(["ip", "addr", "add", f"{HOST_V4}/24", "dev", "eth1"])
    with a_tap(lab) as tap, closing(lab.host.run(Tc)) as tc:
        tc.add_qdisc("eth1", lab.host.index_of("eth1"), BLOCK)
        elsewhere = Match(ifindex=lab.host.index_of("eth0"))
        to = Redirect(ifindex=tap, ingress=True)
        lab.host.run(tc.put, "eth1", classifier, Place(block=BLOCK), elsewhere, to)
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def test_the_unicast_filter_lets_no_broadcast_through(lab: Lab, classifier: Classifier) -> None:
    lab.up("eth1")
    unicast = bytes.fromhex("020000000053") + bytes.fromhex("020000000099") + FRAME[12:]
    with a_tap(lab) as tap, closing(lab.host.run(Tc)) as tc:
        index = lab.host.index_of("eth1")
        tc.add_qdisc("eth1", index, BLOCK)
        to = Redirect(ifindex=tap, ingress=True)
        lab.host.run(tc.put, "eth1", classifier, Place(block=BLOCK), Match(ifindex=index, unicast=True), to)
        assert arrives(lab, "tbk0", unicast)
        assert not arrives(lab, "tbk0", b"\xff" * 6 + unicast[6:])


def test_a_filter_of_a_parked_chain_is_never_asked_and_its_action_counts(lab: Lab, classifier: Classifier) -> None:
    lab.up("eth1")
    with a_tap(lab) as tap, closing(lab.host.run(Tc)) as tc:
        index = lab.host.index_of("eth1")
        tc.add_qdisc("eth1", index, BLOCK)
        parked = Place(block=BLOCK, chain=PARKED)
        put = tc.put
        made = lab.host.run(put, "a", classifier, parked, EVERYTHING, Redirect(ifindex=tap, ingress=True))
        assert not arrives(lab, "tbk0")
        assert tc.get("a", classifier, parked, made.handle).frames == 0
        to = Redirect(index=made.index, ingress=True)
        user = lab.host.run(put, "b", classifier, Place(block=BLOCK), Match(ifindex=index), to)
        assert arrives(lab, "tbk0")
        tc.remove("b", classifier, Place(block=BLOCK), user.handle)
        assert tc.get("a", classifier, parked, made.handle).frames > 0, "it outlives the filter that used it"


def test_a_link_has_one_ingress_qdisc(lab: Lab) -> None:
    lab.host.check_output(["tc", "qdisc", "add", "dev", "eth1", "clsact"])
    with closing(lab.host.run(Tc)) as tc, pytest.raises(TapbondError, match="cannot filter"):
        tc.add_qdisc("eth1", lab.host.index_of("eth1"), BLOCK)


def test_a_redirect_to_a_link_that_is_gone_eats_the_frame(lab: Lab, classifier: Classifier) -> None:
    """Why the next start and ``tapbond restore`` take the filters of a killed process away."""
    lab.up("eth1")
    lab.host.check_output(["ip", "addr", "add", f"{HOST_V4}/24", "dev", "eth1"])
    with a_tap(lab) as tap, receiving(lab, "eth1", tap, classifier) as tc:
        lab.host.netlink(lambda ipr: ipr.link("del", index=tap))
        assert lab.host.spawn(["ping", "-c1", "-W1", FAR_V4], stdout=subprocess.DEVNULL).wait() == 1
        tc.remove_qdisc("eth1", lab.host.index_of("eth1"))
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def test_replacing_a_filter_leaves_no_gap(lab: Lab, classifier: Classifier) -> None:
    """Ten thousand frames a second, and a replacement each millisecond: each frame meets a filter."""
    lab.up("eth1")
    index = lab.host.index_of("eth1")
    with a_tap(lab) as tap, closing(lab.host.run(Tc)) as tc:
        wiring = Wiring("tbk0", tc, [classifier])
        lab.host.run(wiring.open, tap)
        lab.host.run(wiring.add, Link(ifindex=index, name="eth1", mac=""))
        lab.host.run(wiring.receive, index)
        lab.host.check_output(["ip", "link", "set", "tbk0", "address", lab.mac])
        lab.address_failover("tbk0")
        lab.host.run(wiring.send, index)
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
        flow = UdpFlow(lab.host, lab.far, FAR_V4, 5001, rate=RATE, seconds_max=60)
        back = UdpFlow(lab.far, lab.host, HOST_V4, 5002, rate=RATE, seconds_max=60)
        with flow, back:
            flow.start()
            back.start()
            while flow.received < RATE or back.received < RATE:
                lab.host.run(wiring.send, index)
                lab.host.run(wiring.receive, index)
        lab.host.run(wiring.close)
    for each in (flow, back):
        window = total(each.record())
        assert (window.lost, window.duplicated, window.reordered) == (0, 0, 0)


# What tapbond makes of it.


def counted(process: FailoverProcess) -> tuple[int, int]:
    total_now = process.status().counters
    return total_now.tx_frames, total_now.rx_frames


def run_cli(lab: Lab, process: FailoverProcess, *arguments: str) -> str:
    run_dir = str(process.log_path.parent)
    return lab.host.check_output([sys.executable, "-m", "tapbond", *arguments, "--run-dir", run_dir])


def qdiscs(namespace: Namespace) -> list[dict[str, Any]]:
    """Return the ingress and clsact qdiscs of a namespace, as tc(8) shows them."""
    found = json.loads(namespace.check_output(["tc", "-j", "qdisc", "show"]))
    return [qdisc for qdisc in found if qdisc["kind"] in ("ingress", "clsact")]


def test_planned_switches_at_10000_frames_a_second(lab: Lab, start: Start, isolation: str) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    with traffic(lab, RATE) as flows:
        for _ in range(10):
            for slave in ("eth0", "eth1"):
                process.call("Switch", slave=slave)
                flows.pass_frames(500)
    for direction in flows.totals():
        assert (direction.lost, direction.duplicated, direction.reordered) == (0, 0, 0)


def test_the_pump_carries_nothing(lab: Lab, start: Start) -> None:
    """The thread is not even woken: voluntary switches of the whole process are few."""
    process = start(lab)
    with traffic(lab) as flows:
        before = switches(process)
        flows.pass_frames(5000)
        assert switches(process) - before < 2500


def switches(process: FailoverProcess) -> int:
    found = 0
    for task in os.listdir(f"/proc/{process.process.pid}/task"):
        with open(f"/proc/{process.process.pid}/task/{task}/status", encoding="ascii") as status:  # noqa: PTH123
            found += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt"))
    return found


def test_status_says_which_path(lab: Lab, start: Start) -> None:
    process = start(lab)
    status = process.status()
    assert (status.datapath, status.datapath_reason) == ("redirect", "")
    assert "datapath redirect" in run_cli(lab, process, "status", "tb0")


def test_auto_redirects_here(lab: Lab, start: Start) -> None:
    assert start(lab, "--standby", "eth0", "--datapath", "auto").status().datapath == "redirect"


@pytest.mark.parametrize("options", [("--rx", "any"), ("--isolation", "netns"), ("--slave-netns", "1")])
def test_what_needs_the_copy_path_is_refused(lab: Lab, start: Start, options: tuple[str, ...]) -> None:
    before = everything(lab.host)
    process = start(lab, "--standby", "eth0", *options, wait=False)
    assert process.process.wait(10) == 1
    assert f"--datapath redirect: {options[0]}" in process.log
    assert "use --datapath copy" in process.log
    assert everything(lab.host) == before


def test_and_copied_with_auto(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--rx", "any", "--datapath", "auto")
    status = process.status()
    assert status.datapath == "copy"
    assert "--rx any" in status.datapath_reason
    assert "--rx any" in next(line for line in process.log.splitlines() if "frames are copied" in line)
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def test_counters_are_those_of_the_frames(lab: Lab, start: Start) -> None:
    """The TAP's own do not see what is redirected; ours are exact, and each slave's are its own."""
    process = start(lab)
    with traffic(lab) as flows:
        process.call("Switch", slave="eth0")
        flows.pass_frames()
    status = process.status()
    tx, rx = flows.totals()
    assert tx.sent <= status.counters.tx_frames < tx.sent + 200
    assert rx.sent <= status.counters.rx_frames < rx.sent + 200
    by_slave = {slave.name: slave.counters for slave in status.slaves}
    assert sum(slave.tx_frames for slave in by_slave.values()) == status.counters.tx_frames
    assert all(slave.tx_frames > 200 and slave.rx_frames > 200 for slave in by_slave.values())
    assert status.counters.tx_bytes >= tx.sent * 60


def test_the_record_has_the_first_frames(lab: Lab, start: Start) -> None:
    process = start(lab)
    with traffic(lab):
        process.call("Switch", slave="eth0")
        wait_until(lambda: process.status().last_switchovers[-1].to_slave == "eth0", what="the record")
    record = process.status().last_switchovers[-1]
    assert record.first_tx_ns is not None
    assert record.first_rx_ns is not None
    assert record.decided_ns < record.first_tx_ns


def test_everything_is_given_back(lab: Lab, start: Start) -> None:
    before = everything(lab.host), qdiscs(lab.host)
    process = start(lab)
    assert len(qdiscs(lab.host)) == 3
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    assert process.stop() == 0
    assert (everything(lab.host), qdiscs(lab.host)) == before


@pytest.mark.parametrize("how", ["restore", "start"])
def test_killed_and_cleaned_up_after(lab: Lab, start: Start, how: str) -> None:
    """Until then the slaves receive nothing: their filters redirect to a TAP that is gone."""
    before = everything(lab.host)
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", "nft")
    process.stop(signal.SIGKILL)
    wait_until(lambda: len(qdiscs(lab.host)) == 2, what="the TAP to go, and the slaves' filters to stay")
    if how == "restore":
        assert "tc filters removed from 2 links" in run_cli(lab, process, "restore", "tb0")
        assert everything(lab.host) == before
    else:
        again = start(lab, "--standby", "eth0", "--primary", "eth1")
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
        again.stop()
    assert qdiscs(lab.host) == []
    lab.up("eth1")
    lab.host.check_output(["ip", "addr", "add", f"{HOST_V4}/24", "dev", "eth1"])
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def foreign(lab: Lab, link: str) -> list[dict[str, Any]]:
    lab.host.check_output(["tc", "qdisc", "add", "dev", link, "clsact"])
    return qdiscs(lab.host)


def test_a_qdisc_of_somebody_else_is_left_alone(lab: Lab, start: Start) -> None:
    before = foreign(lab, "eth0")
    process = start(lab, wait=False)
    assert process.process.wait(10) == 1
    assert "eth0: has an ingress or clsact qdisc already" in process.log
    assert qdiscs(lab.host) == before
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--datapath", "auto")
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    assert process.status().datapath == "copy"
    assert "eth0: has an ingress or clsact qdisc already" in process.status().datapath_reason
    assert qdiscs(lab.host) == before
    process.stop()
    assert qdiscs(lab.host) == before


def test_a_slave_with_a_qdisc_comes_and_goes(lab: Lab, start: Start) -> None:
    """With ``auto`` all is copied while it is there."""
    lab.unplug("eth1")
    process = start(lab, "--standby", "eth0", "--datapath", "auto")
    assert process.status().datapath == "redirect"
    lab.plug("eth1", mac="02:00:00:00:00:98")
    foreign(lab, "eth1")
    lab.host.check_output(["ip", "link", "set", "eth1", "address", "02:00:00:00:00:53"])
    becomes_active(process, "eth1")
    assert process.status().datapath == "copy"
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    lab.unplug("eth1")
    becomes_active(process, "eth0")
    wait_until(lambda: process.status().datapath == "redirect", what="to redirect again")
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    counters = process.status().counters
    assert counters.tx_frames >= 2
    assert counters.rx_frames >= 2


def test_a_tap_in_a_bridge_is_copied(lab: Lab, start: Start) -> None:
    process = start(lab)
    lab.host.check_output(["ping", "-c3", "-i0.05", FAR_V4])
    before = counted(process)
    lab.host.check_output(["ip", "link", "add", "brg", "type", "bridge"])
    lab.host.check_output(["ip", "link", "set", "tb0", "master", "brg"])
    wait_until(lambda: process.status().datapath == "copy", what="to copy")
    assert "guests" in process.status().datapath_reason
    assert counted(process) >= before
    lab.host.check_output(["ip", "link", "set", "tb0", "nomaster"])
    wait_until(lambda: process.status().datapath == "redirect", what="to redirect again")
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    assert counted(process) >= before
    assert "frames are redirected again" in process.log


def test_a_tap_that_is_moved_is_copied(lab: Lab, start: Start) -> None:
    process = start(lab)
    with Namespace("room") as room:
        lab.host.check_output(["ip", "link", "set", "tb0", "netns", str(holder(room).pid)])
        room.check_output(["ip", "addr", "add", f"{HOST_V4}/24", "dev", "tb0"])
        room.check_output(["ip", "link", "set", "tb0", "up"])
        wait_until(lambda: process.status().datapath == "copy", what="to copy")
        room.check_output(["ping", "-c1", "-W5", FAR_V4])
        assert "another network namespace" in process.status().datapath_reason
        room.check_output(["ip", "link", "set", "tb0", "netns", str(process.process.pid)])
        lab.address_failover()
        wait_until(lambda: process.status().datapath == "redirect", what="to redirect again")
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def holder(namespace: Namespace) -> subprocess.Popen[bytes]:
    return namespace.spawn(["sleep", "60"])


@pytest.mark.parametrize("far", [FAR_V4, FAR_V6])
def test_super_frames_pass_both_ways(lab: Lab, start: Start, far: str) -> None:
    start(lab)
    with TcpStream(lab.host, lab.far, far, 5003, rate=0) as stream:
        stream.start()
        wait_until(lambda: stream.received > 50_000_000, what="50 MB")
    assert stream.record().receive_error == 0


def test_vlan_tags_pass_both_ways(lab: Lab, start: Start) -> None:
    start(lab)
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    tagged = FRAME[:12] + b"\x81\x00\x00\x05" + FRAME[12:]
    for there, back, out, into in (
        (lab.host, lab.far, "tb0", "eth0"),
        (lab.far, lab.host, "eth0", "tb0"),
    ):
        with Wire(back, into, lambda found: found == tagged) as wire, raw(there, out) as sender:

            def seen(wire: Wire = wire, sender: socket.socket = sender) -> bool:
                sender.send(bytes(10) + tagged)
                return bool(wire.frames)

            wait_until(seen, what=f"the tag on {into}")


def test_tcpdump_on_the_tap_sees_what_is_received_only(lab: Lab, start: Start) -> None:
    """What it sends is redirected before it comes to the taps of packet sockets; the slave's see both."""
    start(lab)
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    seen = {}
    for link in ("tb0", "eth1"):
        with lab.host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as listener:
            lab.host.run(listener.bind, (link, ETH_P_ALL))
            listener.settimeout(0.3)
            lab.host.check_output(["ping", "-c2", "-i0.05", FAR_V4])
            seen[link] = set()
            try:
                while True:
                    data, address = listener.recvfrom(2000)
                    if data[12:14] == b"\x08\x00" and data[23] == socket.IPPROTO_ICMP:
                        seen[link].add((data[34], address[2] == socket.PACKET_OUTGOING))
            except TimeoutError:
                pass
    assert seen["tb0"] == {(0, False)}
    assert seen["eth1"] == {(8, True), (0, False)}


def dropped_by_the_tap(lab: Lab) -> int:
    """Return what its qdisc has dropped: qdisc_graft() in net/sched/sch_api.c stops the device for a clsact."""
    (link,) = json.loads(lab.host.check_output(["ip", "-j", "-s", "link", "show", "tb0"]))
    return int(link["stats64"]["tx"]["dropped"])


def test_what_is_sent_without_a_filter_goes_through_the_pump(lab: Lab, start: Start) -> None:
    process = start(lab)
    before = dropped_by_the_tap(lab)
    with traffic(lab) as flows:
        lab.host.check_output(["tc", "qdisc", "del", "dev", "tb0", "clsact"])
        flows.pass_frames(1000)
    tx, _ = flows.totals()
    assert tx.lost <= dropped_by_the_tap(lab) - before
    assert tx.duplicated == 0
    assert process.stop() == 0
    assert qdiscs(lab.host) == []


def test_an_event_tells_of_another_path(lab: Lab, start: Start, tmp_path: Any) -> None:
    process = start(lab)
    stream = tmp_path / "events"
    command = [sys.executable, "-m", "tapbond", "monitor", "tb0", "--json", "--run-dir", str(tmp_path)]
    with stream.open("w") as out, lab.host.spawn(command, stdout=out) as monitor:

        def told() -> bool:
            process.call("Switch", slave="eth0" if process.status().active == "eth1" else "eth1")
            return bool(stream.read_text())

        wait_until(told, what="the monitor to listen")
        lab.host.check_output(["ip", "link", "add", "brg", "type", "bridge"])
        lab.host.check_output(["ip", "link", "set", "tb0", "master", "brg"])
        wait_until(lambda: '"datapath_changed"' in stream.read_text(), what="the event")
        monitor.terminate()
    assert '"datapath":"copy"' in stream.read_text()


def test_a_macvlan_in_a_container_is_announced(lab: Lab, start: Start) -> None:
    """The pump cannot learn of it from what it sends; the TAP's list of addresses tells."""
    process = start(lab)
    box = "52:54:00:00:00:88"
    with Namespace("box") as container:
        lab.host.check_output(
            ["ip", "link", "add", "mv1", "link", "tb0", "address", box, "type", "macvlan", "mode", "private"]
        )
        lab.host.check_output(["ip", "link", "set", "mv1", "netns", str(holder(container).pid)])
        container.check_output(["ip", "addr", "add", "10.53.0.88/24", "dev", "mv1"])
        container.check_output(["ip", "link", "set", "mv1", "up"])
        wait_until(lambda: "unicast=1" in process.log, what="its MAC to be seen")
        container.check_output(["ping", "-c1", "-W5", FAR_V4])
        for slave, port in (("eth0", "sw0"), ("eth1", "sw1")):
            process.call("Switch", slave=slave)
            wait_until(lambda port=port: lab.switch_port_of(box) == port, what="the switch to learn")
            container.check_output(["ping", "-c1", "-W5", FAR_V4])
    assert process.status().datapath == "redirect"


def test_the_blocks_are_the_failovers_own() -> None:
    assert set(blocks_of("tb0")).isdisjoint(blocks_of("tb1"))
