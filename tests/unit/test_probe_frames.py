"""Probes and their answers, byte by byte; the filter that lets the answers through; the MACs that ask."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.announce import checksum
from tapbond.errors import TapbondError
from tapbond.probe import WATCHERS, target_of
from tapbond.probe.mac import own_mac, packed, probing_mac
from tapbond.probe.neighbour import PSEUDO_HEADER, link_local
from tapbond.probe.port import INSTRUCTION, program
from tapbond.testing.probe import HOST_MAC, advertisement, arp_reply

MAC = bytes.fromhex("525400000001")
V4 = IPv4Address("10.0.0.2")
V6 = IPv6Address("fd00::1:2:3456")
ARP, NEIGHBOUR = WATCHERS[4], WATCHERS[6]

macs = st.binary(min_size=6, max_size=6)


def test_arp_probe() -> None:
    """RFC 826's packet with the sender address 0.0.0.0 of RFC 5227, section 2.1.1."""
    expected = "ffffffffffff 525400000001 0806 0001 0800 06 04 0001 525400000001 00000000 000000000000 0a000002"
    assert ARP.probe(MAC, V4.packed) == bytes.fromhex(expected).ljust(60, b"\0")


def test_neighbour_solicitation() -> None:
    """RFC 4861, section 4.3, to the group of RFC 4291, section 2.7.1, at the MAC of RFC 2464, section 7."""
    frame = NEIGHBOUR.probe(MAC, V6.packed)
    source, group = "fe80000000000000505400fffe000001", "ff0200000000000000000001ff023456"
    expected = f"3333ff023456 525400000001 86dd 60000000 0020 3a ff {source} {group}"
    assert frame[:54] == bytes.fromhex(expected)
    assert frame[54:56] == b"\x87\0"
    assert frame[58:] == bytes(4) + V6.packed + bytes.fromhex("0101 525400000001")
    assert checksum(PSEUDO_HEADER.pack(frame[22:38], frame[38:54], 32, 58) + frame[54:]) == 0


def test_link_local_address_of_a_mac() -> None:
    """RFC 4291, appendix A."""
    assert IPv6Address(link_local(bytes.fromhex("3412567890ab"))) == IPv6Address("fe80::3612:56ff:fe78:90ab")


def test_answers_say_who_and_to_whom() -> None:
    assert ARP.answer(arp_reply(V4, MAC)) == (V4.packed, MAC)
    assert NEIGHBOUR.answer(advertisement(V6, MAC)) == (V6.packed, MAC)


def test_a_broadcast_arp_reply_is_an_answer_to_whom_it_names() -> None:
    """RFC 5227, section 2.6, allows it."""
    assert ARP.answer(b"\xff" * 6 + arp_reply(V4, MAC)[6:]) == (V4.packed, MAC)


def test_one_watcher_does_not_take_the_others_answers() -> None:
    assert ARP.answer(advertisement(V6, MAC)) is None
    assert NEIGHBOUR.answer(arp_reply(V4, MAC)) is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (12, "0800"),  # another ethertype
        (14, "0006"),  # another hardware
        (16, "86dd"),  # another protocol
        (18, "08"),
        (19, "10"),
        (20, "0001"),  # a request
    ],
)
def test_no_arp_reply(at: int, value: str) -> None:
    assert ARP.answer(changed(arp_reply(V4, MAC), at, value)) is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (12, "0800"),
        (0, "525400000002"),  # a MAC that the address is not made of
        (14, "50"),  # no IPv6
        (19, "17"),  # shorter than an advertisement
        (19, "ff"),  # longer than the frame
        (20, "11"),  # UDP
        (21, "40"),  # came through a router (RFC 4861, section 7.1.2)
        (53, "02"),  # to somebody else
        (54, "87"),  # a solicitation
        (55, "01"),
        (56, "0000"),  # the checksum
        (70, "ff"),
    ],
)
def test_no_advertisement(at: int, value: str) -> None:
    assert NEIGHBOUR.answer(changed(advertisement(V6, MAC), at, value)) is None


def test_an_unsolicited_advertisement_is_no_answer() -> None:
    frame = changed(advertisement(V6, MAC), 38, IPv6Address("ff02::1").packed.hex())
    assert NEIGHBOUR.answer(changed(frame, 0, "333300000001")) is None


def changed(frame: bytes, at: int, value: str) -> bytes:
    data = bytes.fromhex(value)
    return frame[:at] + data + frame[at + len(data) :]


@given(st.binary(max_size=200), st.integers(0, 100))
def test_no_frame_upsets_a_watcher(noise: bytes, cut: int) -> None:
    for watcher in WATCHERS.values():
        watcher.answer(noise)
        watcher.answer(arp_reply(V4, MAC)[:cut] + noise)
        watcher.answer(advertisement(V6, MAC)[:cut] + noise)


@given(st.integers(0, 41))
def test_no_part_of_an_answer_is_one(cut: int) -> None:
    assert ARP.answer(arp_reply(V4, MAC)[:cut]) is None
    assert NEIGHBOUR.answer(advertisement(V6, MAC)[: cut * 2]) is None


# The filter, run by the machine of Documentation/networking/filter.rst as far as it is used.


def run_filter(code: bytes, frame: bytes) -> int:
    at, register = 0, 0
    instructions = list(INSTRUCTION.iter_unpack(code))
    while True:
        operation, if_true, if_false, value = instructions[at]
        at += 1
        if operation == 0x06:
            return value
        if operation == 0x15:
            at += if_true if register == value else if_false
            continue
        size = {0x28: 2, 0x30: 1}[operation]
        if value + size > len(frame):
            return 0
        register = int.from_bytes(frame[value : value + size])


def test_the_filter_passes_answers_and_little_else() -> None:
    code = program([watcher.pattern for watcher in WATCHERS.values()])
    assert run_filter(code, arp_reply(V4, MAC))
    assert run_filter(code, advertisement(V6, MAC))
    assert not run_filter(code, ARP.probe(MAC, V4.packed))
    assert not run_filter(code, NEIGHBOUR.probe(MAC, V6.packed))
    assert not run_filter(code, arp_reply(V4, MAC)[:20])
    assert not run_filter(program([ARP.pattern]), advertisement(V6, MAC))
    assert not run_filter(program([]), arp_reply(V4, MAC))


@given(st.sampled_from([ARP, NEIGHBOUR]), st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_the_filter_stops_nothing_that_is_an_answer(watcher: object, at: int, noise: bytes) -> None:
    code = program([watcher.pattern for watcher in WATCHERS.values()])
    for frame in (arp_reply(V4, MAC), advertisement(V6, MAC)):
        mangled = changed(frame, at, noise.hex())
        if watcher.answer(mangled) is not None:
            assert run_filter(code, mangled)


# Targets and MACs.


@pytest.mark.parametrize(
    "text", ["10.0.0", "gateway", "", "224.0.0.1", str(IPv4Address(0)), "::", "ff02::1", "::1"]
)
def test_no_target(text: str) -> None:
    with pytest.raises(TapbondError, match=r"10\.0\.0\.1, fd00::1"):
        target_of(text)


@pytest.mark.parametrize(("text", "watcher"), [("10.0.0.2", ARP), ("fe80::1", NEIGHBOUR)])
def test_the_address_picks_the_watcher(text: str, watcher: object) -> None:
    target = target_of(text)
    assert (target.watcher, target.address) == (watcher, ip_address(text).packed)


@given(macs, st.text(max_size=15), st.sets(macs, max_size=3))
def test_an_own_mac_is_nobody_elses(failover: bytes, slave: str, taken: set[bytes]) -> None:
    mac = own_mac(failover, slave, taken)
    assert mac == own_mac(failover, slave, taken)
    assert mac != failover
    assert mac not in taken
    assert mac[0] & 3 == 2
    other = own_mac(failover, slave, {*taken, mac})
    assert other not in {*taken, mac, failover}


def test_who_probes_with_what() -> None:
    own, link = bytes.fromhex("020000000001"), bytes.fromhex("525400000009")
    assert probing_mac(MAC, True, MAC, own) == MAC
    assert probing_mac(MAC, True, link, own) == MAC
    assert probing_mac(MAC, False, MAC, own) == own
    assert probing_mac(MAC, False, link, own) == link
    assert packed("52:54:00:00:00:01") == MAC
    assert struct.calcsize("=iHH8s") == 16
    assert HOST_MAC != MAC
