"""Several queues: what the kernel deals to which, and a failover that has them under many flows at once.

host                                  switch              far
tb0 (queues) ═ numbered UDP flows ═══════════════════════ eth0
eth0 (standby) ──────────────── sw0 ┐
eth1 (primary) ──────────────── sw1 ┴ br0 ── swf ──────── eth0
"""

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from observe import PACKET_IGNORE_OUTGOING, SOL_PACKET, Start, Wire, link_names

from tapbond._core import lib
from tapbond.datapath import sockets as sockets_module
from tapbond.datapath.sockets import SlaveSockets
from tapbond.errors import TapError
from tapbond.lab import FAR_V4, HOST_V4, MAC, Lab, Namespace, UdpFlow, total, wait_until
from tapbond.lab.process import FailoverProcess
from tapbond.lab.report import Window
from tapbond.model import Link
from tapbond.tap import Tap

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

QUEUES = 4
FLOWS = 48
OWN, PEER, BROADCAST = bytes.fromhex(MAC.replace(":", "")), bytes.fromhex("020000000099"), b"\xff" * 6
HOST, FAR = socket.inet_aton(HOST_V4), socket.inet_aton(FAR_V4)
UDP = 17
MORE_FRAGMENTS = 0x2000
VNET_LEN = 10
PROBE = bytes(12) + b"\x88\xb5" + bytes(60)


# What the kernel does.


def datagram(number: int, *, back: bool = False, fragment: int = 0) -> bytes:
    """Return a frame of one UDP flow from far to the host, or ``back``."""
    ports = (4000 + number, 5000)
    source, destination, ports = (HOST, FAR, ports[::-1]) if back else (FAR, HOST, ports)
    udp = struct.pack("!HHHH", *ports, 8 + 16, 0) + bytes(16)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 7, fragment, 64, UDP, 0, source, destination)
    return OWN + PEER + b"\x08\x00" + ip + udp


def arp(number: int) -> bytes:
    return BROADCAST + PEER + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + bytes([number]) * 20


def link_of(lab: Lab, name: str) -> Link:
    return Link(ifindex=lab.host.index_of(name), name=name, mac=MAC)


def hear(sockets: SlaveSockets) -> None:
    for one in sockets:
        assert lib.tb_port_gate(one.fileno(), 1) == 0


@contextmanager
def opened(lab: Lab, name: str, count: int = QUEUES) -> Iterator[SlaveSockets]:
    sockets = lab.host.run(SlaveSockets.open, link_of(lab, name), count)
    try:
        hear(sockets)
        yield sockets
    finally:
        for one in sockets.take():
            one.close()


@contextmanager
def sender(namespace: Namespace, name: str) -> Iterator[socket.socket]:
    with namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        namespace.run(raw.bind, (name, 0))
        yield raw


def queue_of(raw: socket.socket, frame: bytes, queues: list[int]) -> int:
    """Send a frame; return the queue that it came out of, and see that it was one."""
    found: list[int] = []

    def arrived() -> bool:
        for number, fd in enumerate(queues):
            try:
                while True:
                    if os.read(fd, 1 << 16)[VNET_LEN:] == frame:
                        found.append(number)
            except BlockingIOError:
                continue
        return bool(found)

    raw.send(frame)
    wait_until(arrived, what="the frame")
    arrived()
    (queue,) = found
    return queue


def heard(sockets: SlaveSockets) -> list[bytes]:
    """Return what waits; a link that was down has left an error."""
    found = []
    for one in sockets:
        with contextlib.suppress(OSError):
            while True:
                found.append(one.recv(1 << 16))
    return found


def dealt(lab: Lab, sockets: SlaveSockets, port: str, frames: list[bytes]) -> list[int]:
    """Return the queue of each frame that comes in by a port of the switch, once frames pass there."""
    with sender(lab.switch, port) as raw:
        wait_until(lambda: raw.send(PROBE) and heard(sockets), what="the link to carry frames")
        return [queue_of(raw, frame, [one.fileno() for one in sockets]) for frame in frames]


def test_a_flow_has_the_same_queue_on_every_slave_both_ways_and_after_a_link_was_down(lab: Lab) -> None:
    out, back = [datagram(n) for n in range(FLOWS)], [datagram(n, back=True) for n in range(FLOWS)]
    with opened(lab, "eth0") as standby, opened(lab, "eth1") as primary:
        lab.up("eth0")
        lab.up("eth1")
        for sockets in (standby, primary):
            if not sockets.shared:
                assert lab.host.run(sockets.share, QUEUES)
                hear(sockets)
        expected = dealt(lab, standby, "sw0", out)
        assert set(expected) == set(range(QUEUES))
        assert dealt(lab, primary, "sw1", out) == expected
        assert dealt(lab, primary, "sw1", back) == expected
        lab.down("eth1")
        lab.up("eth1")
        assert dealt(lab, primary, "sw1", out) == expected


def test_a_tap_and_a_slave_have_the_same_queue_for_a_flow(lab: Lab) -> None:
    """Whether the kernel has heard of the flow before (tun_automq_select_queue()) or not."""
    frames = [datagram(n, back=True) for n in range(FLOWS)]
    lab.up("eth1")
    tap = lab.host.run(Tap, "tb0", QUEUES)
    try:
        tap.set_carrier(True)
        lab.host.check_output(["ip", "link", "set", "tb0", "up"])
        with opened(lab, "eth1") as sockets, sender(lab.host, "tb0") as raw:
            expected = dealt(lab, sockets, "sw1", frames)
            assert [queue_of(raw, frame, tap.filenos()) for frame in frames] == expected
            for number, queue in enumerate(expected):
                os.write(tap.filenos()[queue], bytes(VNET_LEN) + datagram(number))
            assert [queue_of(raw, frame, tap.filenos()) for frame in frames] == expected
    finally:
        tap.close()


def test_what_has_no_flow_goes_to_one_queue_and_so_do_the_fragments_of_a_datagram(lab: Lab) -> None:
    lab.up("eth1")
    with opened(lab, "eth1") as sockets:
        assert len(set(dealt(lab, sockets, "sw1", [arp(n) for n in range(16)]))) == 1
        fragments = [datagram(n, fragment=MORE_FRAGMENTS | n * 3) for n in range(16)]
        assert len(set(dealt(lab, sockets, "sw1", fragments))) == 1


def test_a_group_does_not_hear_what_others_send(lab: Lab) -> None:
    """PACKET_IGNORE_OUTGOING of its members does not count: the group has a flag of its own."""
    lab.up("eth1")
    with opened(lab, "eth1") as sockets, sender(lab.host, "eth1") as other:
        for n in range(FLOWS):
            other.send(datagram(n, back=True))
        assert len({*dealt(lab, sockets, "sw1", [datagram(n) for n in range(FLOWS)])}) == QUEUES
        assert all(one.getsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING) for one in sockets)


def test_where_a_link_must_be_up_to_join_the_first_hears_all_until_then(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux before 6.13: fanout_add() refuses a socket that does not run."""
    found = sockets_module._found

    def refuse(_first: socket.socket) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sockets_module, "_found", refuse)
    with opened(lab, "eth1") as sockets:
        assert not sockets.shared
        lab.up("eth1")
        frames = [datagram(n) for n in range(FLOWS)]
        assert set(dealt(lab, sockets, "sw1", frames)) == {0}
        with Wire(lab.switch, "sw1", lambda frame: frame[12:14] == b"\x08\x00") as wire:
            for one in sockets:
                one.send(bytes(VNET_LEN) + datagram(1, back=True))
            wait_until(lambda: len(wire.frames) == QUEUES, what="a frame by each queue")
        monkeypatch.setattr(sockets_module, "_found", found)
        assert lab.host.run(sockets.share, QUEUES)
        hear(sockets)
        assert set(dealt(lab, sockets, "sw1", frames)) == set(range(QUEUES))


def test_a_tap_of_one_queue_takes_no_second(lab: Lab) -> None:
    lab.host.check_output(["ip", "tuntap", "add", "tb0", "mode", "tap", "vnet_hdr"])
    with pytest.raises(TapError, match=r"tb0: exists already as a TAP with one queue .*--queues 1"):
        lab.host.run(Tap, "tb0", 2)
    tap = lab.host.run(Tap, "tb0", 1)
    tap.close()


def test_queues_of_a_tap_that_somebody_uses_are_not_joined(lab: Lab) -> None:
    tap = lab.host.run(Tap, "tb0", 2)
    try:
        for queues in (1, 2):
            with pytest.raises(TapError, match="tb0: the TAP is in use by another process"):
                lab.host.run(Tap, "tb0", queues)
        assert len(tap.filenos()) == 2
    finally:
        tap.close()
    assert "tb0" not in link_names(lab.host)


# A failover that has them.


class Flows:
    """So many numbered UDP flows each way, while open; one a queue would be a stroke of luck."""

    COUNT = 6
    RATE = 800

    def __init__(self, lab: Lab) -> None:
        numbers = range(self.COUNT)
        self.out = [self._flow(lab.host, lab.far, FAR_V4, 5100 + n) for n in numbers]
        self.back = [self._flow(lab.far, lab.host, HOST_V4, 5200 + n) for n in numbers]

    def _flow(self, source: Namespace, sink: Namespace, address: str, port: int) -> UdpFlow:
        return UdpFlow(source, sink, address, port, rate=self.RATE, seconds_max=60)

    def pass_frames(self, count: int = 60) -> None:
        """Wait until so many more have arrived in each flow."""
        flows = self.out + self.back
        before = [flow.received for flow in flows]
        wait_until(
            lambda: all(flow.received >= was + count for flow, was in zip(flows, before, strict=True)),
            what=f"{count} frames in each flow",
        )

    def totals(self) -> tuple[list[Window], list[Window]]:
        return [total(flow.record()) for flow in self.out], [total(flow.record()) for flow in self.back]


@contextmanager
def flows_through(lab: Lab) -> Iterator[Flows]:
    lab.host.check_output(["ping", "-c1", "-W2", FAR_V4])
    flows = Flows(lab)
    with ExitStack() as running:
        for flow in (*flows.out, *flows.back):
            running.enter_context(flow)
            flow.start()
        flows.pass_frames()
        yield flows
        flows.pass_frames()


def pump_threads(process: FailoverProcess) -> int:
    tasks = Path(f"/proc/{process.process.pid}/task").glob("*/comm")
    return sum(comm.read_text().startswith("tapbond-pump") for comm in tasks)


def queues_options(queues: int) -> tuple[str, ...]:
    return ("--standby", "eth0", "--primary", "eth1", "--datapath", "copy", "--queues", str(queues))


@pytest.mark.parametrize("queues", [2, 4])
def test_planned_switches_lose_double_and_reorder_nothing_in_any_flow(lab: Lab, start: Start, queues: int) -> None:
    process = start(lab, *queues_options(queues))
    assert (process.status().queues, pump_threads(process)) == (queues, queues)
    with flows_through(lab) as flows:
        for _ in range(5):
            for slave in ("eth0", "eth1"):
                process.call("Switch", slave=slave)
                flows.pass_frames(30)
    for direction in flows.totals():
        for flow in direction:
            assert (flow.lost, flow.duplicated, flow.reordered) == (0, 0, 0)


def test_a_link_set_down_loses_nothing_that_was_sent_by_any_queue(lab: Lab, start: Start) -> None:
    process = start(lab, *queues_options(4))
    with flows_through(lab) as flows:
        for _ in range(2):
            lab.down("eth1")
            wait_until(lambda: process.status().active == "eth0", what="the standby to be active")
            flows.pass_frames()
            lab.up("eth1")
            wait_until(lambda: process.status().active == "eth1", what="the primary to be active")
            flows.pass_frames()
    out, back = flows.totals()
    assert [(flow.lost, flow.duplicated, flow.reordered) for flow in out] == [(0, 0, 0)] * Flows.COUNT
    assert [flow.duplicated for flow in back] == [0] * Flows.COUNT
    assert [record.cause for record in process.status().last_switchovers[1:]] == ["set down", "primary ready"] * 2


def test_unplug_and_replug_with_four_queues(lab: Lab, start: Start) -> None:
    process = start(lab, *queues_options(4))
    with flows_through(lab) as flows:
        lab.unplug("eth1")
        wait_until(lambda: process.status().active == "eth0", what="the standby to be active")
        flows.pass_frames()
        lab.plug("eth1")
        wait_until(lambda: process.status().active == "eth1", what="the primary to be active")
    out, back = flows.totals()
    assert sum(flow.lost for flow in out) <= 4  # a frame inside the veth that was deleted is gone with it
    assert all((flow.duplicated, flow.reordered) == (0, 0) for flow in out + back)


def test_a_switchover_is_announced_once_not_once_a_queue(lab: Lab, start: Start) -> None:
    process = start(lab, *queues_options(4), "--announce", "1")
    with Wire(lab.switch, "sw0", lambda frame: frame[12:14] == b"\x80\x35") as wire:
        lab.down("eth1")
        wait_until(lambda: wire.frames, what="the announcement")
        lab.host.check_output(["ping", "-c3", "-i0.1", FAR_V4])
    assert len(wire.frames) == 1
    (*_, record) = process.status().last_switchovers
    assert (record.to_slave, record.cause) == ("eth0", "set down")


def test_a_persistent_tap_with_multi_queue_stays(lab: Lab, start: Start) -> None:
    lab.host.check_output(["ip", "tuntap", "add", "tb0", "mode", "tap", "multi_queue", "vnet_hdr"])
    for queues in (3, 1):
        process = start(lab, *queues_options(queues))
        assert process.status().queues == queues
        lab.host.check_output(["ping", "-c1", FAR_V4])
        assert process.stop() == 0
        assert link_names(lab.host) == {"lo", "eth0", "eth1", "tb0"}


def test_a_tap_that_is_moved_keeps_its_queues(lab: Lab, start: Start) -> None:
    process = start(lab, *queues_options(2))
    with Namespace("guest") as guest, guest.spawn(["sleep", "60"]) as inside:
        lab.host.check_output(["ip", "link", "set", "tb0", "netns", str(inside.pid)])
        wait_until(lambda: process.status().netns, what="the TAP to be followed")
        for command in (["addr", "add", f"{HOST_V4}/24", "dev", "tb0"], ["link", "set", "tb0", "up"]):
            guest.check_output(["ip", *command])
        guest.check_output(["ping", "-c2", "-i0.1", "-W3", FAR_V4])
        process.call("Switch", slave="eth0")
        guest.check_output(["ping", "-c2", "-i0.1", "-W3", FAR_V4])
        assert process.status().queues == 2
        inside.terminate()


def test_adopting_with_two_queues(lab: Lab, start: Start) -> None:
    lab.up("eth0")
    lab.address_failover("eth0")
    process = start(lab, *queues_options(2), "--adopt", wait=False)
    process.wait_ready()
    lab.host.check_output(["ping", "-c2", "-i0.1", "-W3", FAR_V4])
    assert process.stop() == 0
    lab.host.check_output(["ping", "-c1", "-W3", FAR_V4])


def test_status_says_how_many(lab: Lab, start: Start, tmp_path: Path) -> None:
    start(lab, *queues_options(2))
    command = [sys.executable, "-m", "tapbond", "status", "tb0", "--run-dir", str(tmp_path)]
    assert "datapath copy, 2 queues\n" in lab.host.check_output(command)
