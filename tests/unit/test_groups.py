"""Multicast groups: what /proc tells, and the reports byte for byte."""

import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from tapbond.announce import checksum
from tapbond.groups import RECORDS_MAX, igmp_report, joined, mld_report, reports

MAC = "02:00:5e:10:00:01"
RAW = bytes.fromhex("02005e100001")


def number(group: str) -> str:
    """Write a group as net/ipv4/igmp.c does on this machine."""
    return f"{int.from_bytes(IPv4Address(group).packed, sys.byteorder):08X}"


IGMP = f"""\
Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t{number("224.0.0.1")}     1 0:00000000\t\t0
4\ttb0       :     3      V2
\t\t\t\t{number("239.1.2.3")}     1 0:00000000\t\t1
\t\t\t\t{number("224.0.0.251")}     2 1:00000100\t\t0
\t\t\t\t{number("224.0.0.1")}     1 0:00000000\t\t0
14\teth0      :     1      V3
\t\t\t\t{number("239.9.9.9")}     1 0:00000000\t\t0
"""
IGMP6 = """\
1    lo              ff020000000000000000000000000001     1 0000000C 0
4    tb0             ff150000000000000000000100020003     1 00000004 0
4    tb0             ff0200000000000000000001ff000053     1 00000004 0
4    tb0             ff020000000000000000000000000001     1 0000000C 0
4    tb0             ff010000000000000000000000000001     1 00000008 0
14   eth0            ff150000000000000000000000000099     1 00000004 0
"""
TEXTS = {"igmp": IGMP, "igmp6": IGMP6}


def test_the_groups_of_one_link_without_those_that_are_never_reported() -> None:
    """RFC 2236, section 6 (224.0.0.1); RFC 3810, section 6 (ff02::1 and what is of this interface only)."""
    assert [str(group) for group in joined(4, TEXTS.__getitem__)] == [
        "239.1.2.3",
        "224.0.0.251",
        "ff15::1:2:3",
        "ff02::1:ff00:53",
    ]
    assert joined(1, TEXTS.__getitem__) == []
    assert joined(99, TEXTS.__getitem__) == []


def test_a_kernel_without_one_of_them_tells_of_the_other() -> None:
    def read(name: str) -> str:
        if name == "igmp":
            raise FileNotFoundError(name)
        return IGMP6

    assert {group.version for group in joined(4, read)} == {6}


@given(st.text(max_size=200))
def test_nonsense_is_no_group(text: str) -> None:
    assert isinstance(joined(1, lambda _name: text), list)


def test_igmpv2_report() -> None:
    assert igmp_report(RAW, IPv4Address("192.0.2.17"), IPv4Address("239.129.2.3")) == bytes.fromhex(
        "01005e010203 02005e100001 0800"  # 23 bits of the group (RFC 1112, section 6.4)
        "46c0 0020 0000 0000 01 02 7082 c0000211 ef810203 94040000"  # TTL 1, router alert
        "16 00 f87a ef810203"
    ).ljust(60, b"\0")


def test_mldv2_report() -> None:
    source, group = IPv6Address("fe80::5eff:fe10:1"), IPv6Address("ff15::1:2:3")
    frame = mld_report(RAW, source, [group, IPv6Address("ff02::fb")])
    assert frame[:14] == bytes.fromhex("333300000016 02005e100001 86dd")
    assert frame[14:22] == bytes.fromhex("60000000 0038 00 01")  # hop-by-hop first, hop limit 1
    assert frame[22:38] == source.packed
    assert frame[38:54] == IPv6Address("ff02::16").packed
    assert frame[54:62] == bytes.fromhex("3a00 05020000 0100")
    message = frame[62:]
    assert message[:2] + message[4:8] == bytes.fromhex("8f00 0000 0002")
    assert (
        message[8:]
        == bytes.fromhex("04000000") + group.packed + bytes.fromhex("04000000") + IPv6Address("ff02::fb").packed
    )
    assert checksum(frame[22:54] + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message) == 0


@given(st.ip_addresses(v=4), st.ip_addresses(v=4, network="224.0.0.0/4"))
def test_a_receiver_finds_both_checksums_of_an_igmp_report_right(address: IPv4Address, group: IPv4Address) -> None:
    packet = igmp_report(RAW, address, group)[14:46]
    assert checksum(packet[:24]) == checksum(packet[24:]) == 0


def test_a_report_comes_from_an_address_of_the_link_or_from_none() -> None:
    four, six = ip_address("239.1.2.3"), ip_address("ff15::1")
    addresses = [ip_address(text) for text in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "fe80::1")]
    assert reports(MAC, [four, six], addresses) == [
        igmp_report(RAW, IPv4Address("192.0.2.1"), four),
        mld_report(RAW, IPv6Address("fe80::1"), [six]),
    ]
    assert reports(MAC, [four, six], []) == [
        igmp_report(RAW, IPv4Address(0), four),
        mld_report(RAW, IPv6Address(0), [six]),
    ]
    assert reports(MAC, [], addresses) == []


def test_many_groups_fit_into_frames_that_every_link_carries() -> None:
    groups = [IPv6Address(f"ff15::{n:x}") for n in range(1, 200)]
    frames = reports(MAC, groups, [])
    assert len(frames) == -(-len(groups) // RECORDS_MAX)
    assert all(len(frame) <= 14 + 1280 for frame in frames)
    assert all(sum(group.packed in frame for frame in frames) == 1 for group in groups)
