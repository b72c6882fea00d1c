"""The frames that tell a switch where the MAC lives now, byte for byte."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond._core import lib
from tapbond.announce import announcements, checksum, gratuitous_arp, rarp, unsolicited_na

MAC = "02:00:5e:10:00:01"
RAW = bytes.fromhex("02005e100001")
PADDING = bytes(18)


def test_rarp() -> None:
    assert (
        rarp(RAW)
        == bytes.fromhex(
            "ffffffffffff 02005e100001 8035"  # to all, from us, RARP
            "0001 0800 06 04 0003"  # Ethernet, IPv4, their lengths, request reverse
            "02005e100001 00000000 02005e100001 00000000"
        )
        + PADDING
    )


def test_gratuitous_arp() -> None:
    assert (
        gratuitous_arp(RAW, IPv4Address("192.0.2.17"))
        == bytes.fromhex(
            "ffffffffffff 02005e100001 0806"
            "0001 0800 06 04 0001"  # a request
            "02005e100001 c0000211 000000000000 c0000211"  # sender's and target's address are the same
        )
        + PADDING
    )


def test_unsolicited_neighbour_advertisement() -> None:
    assert unsolicited_na(RAW, IPv6Address("fe80::5eff:fe10:1")) == bytes.fromhex(
        "333300000001 02005e100001 86dd"
        "60000000 0020 3a ff"  # 32 bytes of ICMPv6, hop limit 255
        "fe8000000000000000005efffe100001"
        "ff020000000000000000000000000001"
        "88 00 3f6a 20000000"  # override, not solicited, no router
        "fe8000000000000000005efffe100001"
        "02 01 02005e100001"  # target link-layer address
    )


def ones_complement_sum(data: bytes) -> int:
    """Add 16-bit words with end-around carry, one at a time as RFC 1071 describes it."""
    total = 0
    for place in range(0, len(data), 2):
        total += int.from_bytes(data[place : place + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.ip_addresses(v=6), st.binary(min_size=6, max_size=6))
def test_a_receiver_finds_the_checksum_of_an_advertisement_right(address: IPv6Address, mac: bytes) -> None:
    found = unsolicited_na(mac, address)
    packet = found[14:]
    length, icmp = int.from_bytes(packet[4:6], "big"), packet[40:]
    assert length == len(icmp) == 32
    pseudo = packet[8:40] + length.to_bytes(4, "big") + bytes([0, 0, 0, 58])
    assert ones_complement_sum(pseudo + icmp) == 0xFFFF
    assert packet[8:24] == icmp[8:24] == address.packed
    assert icmp[26:32] == found[6:12] == mac


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    assert checksum(data) == ~ones_complement_sum(data) & 0xFFFF


def test_the_example_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@given(st.lists(st.ip_addresses(), max_size=80))
def test_every_address_is_announced_after_the_mac(addresses: list[IPv4Address | IPv6Address]) -> None:
    frames = announcements(MAC, addresses)
    assert frames[0] == rarp(RAW)
    assert len(frames) == 1 + len(addresses)
    for address, found in zip(addresses, frames[1:], strict=True):
        assert address.packed in found
        assert found[12:14] == (b"\x08\x06" if address.version == 4 else b"\x86\xdd")


@given(st.lists(st.ip_addresses(), max_size=8))
def test_frames_are_long_enough_for_ethernet_and_short_enough_for_the_pump(
    addresses: list[IPv4Address | IPv6Address],
) -> None:
    for found in announcements(MAC, addresses):
        assert 60 <= len(found) <= lib.TB_ANNOUNCE_LEN
        assert found[6:12] == RAW


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_all_go_to_a_group(address: str) -> None:
    assert all(found[0] & 1 for found in announcements(MAC, [ip_address(address)]))
