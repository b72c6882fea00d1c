"""Frames as they are: tagged, huge, tiny, too large; each arrives as it was sent, or is counted.

host                  switch        far
tb0 <- tested        ┌ sw0
eth0, eth1 ──────────┴ sw1 ─ br0 ── eth0
"""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from observe import Start, Wire, raw

from tapbond.announce import checksum
from tapbond.lab import Lab, wait_until

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip"), pytest.mark.both_paths]

MAC = bytes.fromhex("020000000053")
FAR = bytes.fromhex("0200000000fa")
PROBE = 0x88B5
"""An ethertype for local experiments (IEEE 802)."""
TCP, UDP = 6, 17
GSO_TCPV4, GSO_UDP_L4 = 1, 5
NEEDS_CSUM = 1


def ethernet(payload: bytes, ethertype: int = PROBE, tag: tuple[int, int] | None = None) -> bytes:
    between = struct.pack("!HH", *tag) if tag else b""
    return MAC + FAR + between + struct.pack("!H", ethertype) + payload


def udp4(payload: bytes) -> bytes:
    """Return an IPv4 and UDP packet whose UDP checksum is still to be made (only the pseudo header's sum)."""
    length = 8 + len(payload)
    addresses = bytes((10, 53, 0, 2, 10, 53, 0, 1))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, UDP, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    pseudo = ~checksum(addresses + struct.pack("!HH", UDP, length)) & 0xFFFF
    return header + struct.pack("!HHHH", 4000, 4001, length, pseudo) + payload


def udp4_checksum_holds(packet: bytes) -> bool:
    addresses, datagram = packet[12:20], packet[20 : struct.unpack("!H", packet[2:4])[0]]
    return checksum(addresses + struct.pack("!HH", UDP, len(datagram)) + datagram) == 0


def ours(frame: bytes) -> bool:
    return frame[6:12] == FAR or frame[:6] == FAR


def test_a_tagged_frame_arrives_tagged(lab: Lab, start: Start) -> None:
    start(lab)
    frame = ethernet(b"tagged".ljust(60, b"."), tag=(0x8100, 0x6123))
    with Wire(lab.host, "tb0", ours) as tap, raw(lab.far, "eth0") as far:
        far.send(bytes(10) + frame)
        wait_until(lambda: tap.frames, what="the frame")
    assert tap.frames == [frame]


def test_a_tagged_frame_leaves_tagged(lab: Lab, start: Start) -> None:
    start(lab)
    frame = FAR + MAC + ethernet(b"tagged".ljust(60, b"."), tag=(0x88A8, 0xE001))[12:]
    with Wire(lab.far, "eth0", ours) as far, raw(lab.host, "tb0") as tap:
        tap.send(bytes(10) + frame)
        wait_until(lambda: far.frames, what="the frame")
    assert far.frames == [frame]


@pytest.mark.parametrize("tag", [None, (0x8100, 42)])
def test_a_partial_checksum_is_made_in_the_right_place(
    lab: Lab, start: Start, tag: tuple[int, int] | None
) -> None:
    """CHECKSUM_PARTIAL survives the tag: what arrives is either whole or says where the sum goes."""
    start(lab)
    shift = 4 if tag else 0
    frame = ethernet(udp4(b"x" * 100), 0x0800, tag)
    vnet = struct.pack("=BBHHHH", NEEDS_CSUM, 0, 0, 0, 34 + shift, 6)
    with Wire(lab.host, "tb0", lambda f: ours(f) and len(f) > 100) as tap, raw(lab.far, "eth0") as far:
        far.send(vnet + frame)
        wait_until(lambda: tap.frames, what="the frame")
    arrived, header = tap.frames[0], struct.unpack("=BBHHHH", tap.headers[0])
    assert arrived[: 14 + shift] == frame[: 14 + shift]
    if header[0] & NEEDS_CSUM:  # the Wire's own header speaks of the frame without its tag
        assert header[4:] == (34, 6)
        packet = arrived[14 + shift :]
        whole = packet[:26] + struct.pack("!H", checksum(packet[20:])) + packet[28:]
        assert udp4_checksum_holds(whole)
    else:
        assert udp4_checksum_holds(arrived[14 + shift :])


@pytest.mark.parametrize("tag", [None, (0x8100, 7)])
def test_a_64k_super_frame_passes_whole(lab: Lab, start: Start, tag: tuple[int, int] | None) -> None:
    start(lab)
    shift = 4 if tag else 0
    payload = bytes(range(256)) * 250  # 64000 bytes
    tcp = struct.pack("!HHIIBBHHH", 4000, 4001, 1, 1, 0x50, 0x10, 1000, 0, 0)
    length = 20 + len(tcp) + len(payload)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0x4000, 64, TCP, 0) + bytes((10, 53, 0, 2, 10, 53, 0, 1))
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    frame = ethernet(header + tcp + payload, 0x0800, tag)
    vnet = struct.pack("=BBHHHH", NEEDS_CSUM, GSO_TCPV4, 54 + shift, 1448, 34 + shift, 16)
    with Wire(lab.host, "tb0", lambda f: ours(f) and len(f) > 1000) as tap, raw(lab.far, "eth0") as far:
        far.send(vnet + frame)
        wait_until(lambda: tap.frames, what="the frame")
    assert len(tap.frames) == 1
    assert tap.frames[0][54 + shift :] == payload
    kind, size = tap.headers[0][1], struct.unpack_from("=H", tap.headers[0], 4)[0]
    assert (kind, size) == (GSO_TCPV4, 1448)


@pytest.mark.tools("ethtool")
def test_a_super_frame_leaves_over_a_link_that_cannot_segment(lab: Lab, start: Start) -> None:
    """The pump sends past the qdisc of veth, learns that this one cannot be had, and goes the other way."""
    process = start(lab)
    lab.host.check_output(["ethtool", "-K", "eth1", "tso", "off"])
    tcp = struct.pack("!HHIIBBHHH", 4000, 4001, 1, 1, 0x50, 0x10, 1000, 0, 0)
    payload = bytes(range(200)) * 20
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 1, 0x4000, 64, TCP, 0)
    header += bytes((10, 53, 0, 1, 10, 53, 0, 2))
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    vnet = struct.pack("=BBHHHH", NEEDS_CSUM, GSO_TCPV4, 54, 1000, 34, 16)
    with Wire(lab.far, "eth0", ours) as far, raw(lab.host, "tb0") as host:
        host.send(vnet + FAR + MAC + b"\x08\x00" + header + tcp + payload)
        wait_until(lambda: len(far.frames) == 4, what="four segments")
    assert b"".join(frame[54:] for frame in far.frames) == payload
    assert process.status().counters.tx_dropped == 0


def test_a_runt_and_a_frame_over_the_mtu_do_no_harm(lab: Lab, start: Start) -> None:
    process = start(lab)
    good = ethernet(b"good".ljust(60, b"."))
    with Wire(lab.host, "tb0", ours) as tap, raw(lab.far, "eth0") as far, raw(lab.host, "tb0") as host:
        far.send(bytes(10) + good[:14])  # an Ethernet header and nothing
        with pytest.raises(OSError, match="Message too long"):
            far.send(bytes(10) + good + bytes(2000))
        with pytest.raises(OSError, match="Message too long"):
            host.send(bytes(10) + FAR + MAC + good[12:] + bytes(2000))
        far.send(bytes(10) + good)
        wait_until(lambda: good in tap.frames, what="the good frame")
    assert process.status().active == "eth1"


def test_a_frame_larger_than_the_slave_takes_is_counted(lab: Lab, start: Start) -> None:
    """The host may raise the TAP's MTU alone: such frames are dropped, the slave is not blamed."""
    process = start(lab)
    lab.host.check_output(["ip", "link", "set", "tb0", "mtu", "4000"])
    with Wire(lab.far, "eth0", ours) as far, raw(lab.host, "tb0") as host:
        host.send(bytes(10) + FAR + MAC + b"\x88\xb5" + bytes(3000))
        good = FAR + MAC + b"\x88\xb5" + bytes(60)
        host.send(bytes(10) + good)
        wait_until(lambda: good in far.frames, what="the good frame")
    status = process.status()
    assert status.active == "eth1"
    assert next(slave.counters.tx_dropped for slave in status.slaves if slave.active) == 1


def test_multicast_reaches_the_host(lab: Lab, start: Start, isolation: str) -> None:
    start(lab, "--standby", "eth0", "--primary", "eth1", "--isolation", isolation)
    group = bytes.fromhex("01005e0a0b0c") + FAR + b"\x88\xb5" + b"group".ljust(60, b".")
    with Wire(lab.host, "tb0", ours) as tap, raw(lab.far, "eth0") as far:
        far.send(bytes(10) + group)
        wait_until(lambda: tap.frames, what="the frame")
    assert tap.frames == [group]


def test_a_burst_larger_than_the_batch_arrives_in_order(lab: Lab, start: Start) -> None:
    start(lab)
    frames = [FAR + MAC + b"\x88\xb5" + number.to_bytes(4, "big") * 15 for number in range(400)]
    with Wire(lab.far, "eth0", ours) as far, raw(lab.host, "tb0") as host:
        for frame in frames:
            host.send(bytes(10) + frame)
        wait_until(lambda: len(far.frames) >= len(frames), what="400 frames")
    assert far.frames == frames


def test_any_frame_passes_both_ways_unchanged(lab: Lab, start: Start) -> None:
    start(lab)
    with (
        Wire(lab.host, "tb0", ours) as tap,
        Wire(lab.far, "eth0", ours) as far,
        raw(lab.host, "tb0") as from_host,
        raw(lab.far, "eth0") as from_far,
    ):

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.binary(min_size=46, max_size=1400), st.one_of(st.none(), st.integers(0, 0xFFFF)))
        def passes(payload: bytes, tci: int | None) -> None:
            inward = ethernet(payload, tag=None if tci is None else (0x8100, tci))
            outward = FAR + MAC + inward[12:]
            seen = len(tap.frames), len(far.frames)
            from_far.send(bytes(10) + inward)
            from_host.send(bytes(10) + outward)
            wait_until(lambda: (len(tap.frames), len(far.frames)) == (seen[0] + 1, seen[1] + 1), what="both")
            assert (tap.frames[-1], far.frames[-1]) == (inward, outward)

        passes()
