"""Every kernel behaviour that tapbond relies on, alone: when another kernel differs, the name says where."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from observe import ETH_P_ALL, PACKET_VNET_HDR, SOL_PACKET, raw

from tapbond._core import lib
from tapbond.datapath.port import open_port
from tapbond.lab import Lab, wait_until
from tapbond.model import Link
from tapbond.tap import Tap

pytestmark = pytest.mark.namespaces

FRAME = bytes(10) + b"\xff" * 6 + bytes.fromhex("020000000053") + b"\x88\xb5" + bytes(60)


def port(lab: Lab, name: str) -> socket.socket:
    link = Link(ifindex=lab.host.index_of(name), name=name, mac="02:00:00:00:00:53")
    return lab.host.run(open_port, link)


def send_error(sender: socket.socket) -> int:
    """Return the errno of a send, the second if the first was a stale one; 0: it was sent."""
    error = 0
    for _ in range(2):
        try:
            sender.send(FRAME)
        except OSError as failure:
            error = failure.errno or 0
        else:
            return 0
    return error


def test_send_on_a_link_that_is_down_says_enetdown(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        assert send_error(sender) == 0
        lab.down("eth1")
        assert send_error(sender) == errno.ENETDOWN


def test_send_on_a_link_that_is_gone_says_enxio(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        lab.unplug("eth1")
        assert send_error(sender) == errno.ENXIO


def test_send_without_carrier_says_enobufs_or_nothing(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        lab.lose_carrier("eth1")
        assert send_error(sender) in (0, errno.ENOBUFS)


def test_the_direct_way_says_enobufs_without_carrier(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        assert lib.tb_port_direct(sender.fileno(), 1) == 0
        lab.up("eth1")
        assert send_error(sender) == 0
        lab.lose_carrier("eth1")
        assert send_error(sender) == errno.ENOBUFS


@pytest.mark.tools("ethtool")
def test_the_direct_way_refuses_what_the_device_cannot_segment(lab: Lab) -> None:
    """validate_xmit_skb_list() would have to, and __dev_direct_xmit() takes no other frame than it was given."""
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        lab.host.check_output(["ethtool", "-K", "eth1", "tso", "off"])
        super_frame = struct.pack("=BBHHHH", 1, 1, 54, 1000, 34, 16) + FRAME[10:22] + b"\x08\x00"
        super_frame += bytes.fromhex("45001388000040004006000 00a3500010a350002".replace(" ", "")) + bytes(12)
        super_frame += b"\x50\x10" + bytes(5006)
        assert sender.send(super_frame) == len(super_frame)
        lib.tb_port_direct(sender.fileno(), 1)
        with pytest.raises(OSError, match="No buffer space"):
            sender.send(super_frame)


def test_down_leaves_an_error_on_the_socket(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        lab.down("eth1")
        wait_until(
            lambda: sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENETDOWN, what="the error"
        )
        assert sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_packet_socket_survives_its_link(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        lab.unplug("eth1")
        assert send_error(sender) == errno.ENXIO
        lab.plug("eth1")
        lab.up("eth1")
        assert lib.tb_port_bind(sender.fileno(), lab.host.index_of("eth1")) == 0
        assert send_error(sender) == 0


def test_the_device_tells_a_lost_carrier_at_once(lab: Lab) -> None:
    index = lab.host.index_of("eth1")
    with lab.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        assert lib.tb_link_ready(asking.fileno(), index) == 0
        lab.up("eth1")
        wait_until(lambda: lib.tb_link_ready(asking.fileno(), index) == 1, what="operationally up")
        lab.lose_carrier("eth1")
        assert lib.tb_link_ready(asking.fileno(), index) == 0
        lab.restore_carrier("eth1")
        wait_until(lambda: lib.tb_link_ready(asking.fileno(), index) == 1, what="operationally up")
        lab.unplug("eth1")
        assert lib.tb_link_ready(asking.fileno(), index) == -errno.ENODEV


def test_a_closed_gate_drops_and_an_open_one_does_not(lab: Lab) -> None:
    with port(lab, "eth1") as listener, raw(lab.far, "eth0") as far:
        lab.up("eth1")
        far.send(FRAME)
        with pytest.raises(BlockingIOError):
            listener.recv(2000)
        assert lib.tb_port_gate(listener.fileno(), 1) == 0

        def arrives() -> bool:
            far.send(FRAME)
            try:
                return FRAME[10:] in listener.recv(2000)
            except BlockingIOError:
                return False

        wait_until(arrives, what="a frame")


def test_own_frames_do_not_come_back(lab: Lab) -> None:
    with port(lab, "eth1") as sender:
        lab.up("eth1")
        lib.tb_port_gate(sender.fileno(), 1)
        assert send_error(sender) == 0
        assert FRAME[10:] not in [frame[10:] for frame in waiting(sender)]


def waiting(listener: socket.socket) -> Iterator[bytes]:
    """Yield what waits on a socket."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield listener.recv(2000)


def test_protocol_0_hears_nothing_before_bind(lab: Lab) -> None:
    lab.up("eth1")
    with lab.host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as quiet, raw(lab.far, "eth0") as far:
        quiet.setblocking(False)
        far.send(FRAME)
        with pytest.raises(BlockingIOError):
            quiet.recv(2000)


def test_the_tap_is_made_without_carrier_and_gets_it(lab: Lab) -> None:
    tap = lab.host.run(Tap, "tbk0")
    try:
        index = lab.host.index_of("tbk0")
        lab.host.netlink(lambda ipr: ipr.link("set", index=index, state="up"))
        with lab.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            assert lib.tb_link_ready(asking.fileno(), index) == 0
            tap.set_carrier(True)
            wait_until(lambda: lib.tb_link_ready(asking.fileno(), index) == 1, what="the carrier")
        assert not os.get_inheritable(tap.fileno())
        assert not os.get_blocking(tap.fileno())
        assert not tap.persistent
    finally:
        tap.close()


def test_a_vlan_tag_is_in_the_auxdata_not_in_the_frame(lab: Lab) -> None:
    lab.up("eth1")
    tagged = FRAME[:22] + struct.pack("!HH", 0x8100, 5) + FRAME[22:]
    with lab.host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as listener, raw(lab.far, "eth0") as far:
        listener.setsockopt(SOL_PACKET, 8, 1)
        listener.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        lab.host.run(listener.bind, ("eth1", ETH_P_ALL))
        listener.settimeout(0.2)

        def heard() -> tuple[bytes, list[tuple[int, int, bytes]]] | None:
            far.send(tagged)  # again: the switch's port forwards a moment after it is up
            with contextlib.suppress(TimeoutError):
                while True:
                    data, ancillary, _, _ = listener.recvmsg(2000, 128)
                    if data[16:22] == FRAME[16:22] and data[22:24] != b"\x86\xdd":  # what IPv6 says of itself
                        return data, ancillary
            return None

        data, ancillary = wait_until(heard, what="the frame")
        assert data[22:24] == b"\x88\xb5"
        assert struct.unpack("IIIHHHH", ancillary[0][2][:20])[5] == 5
