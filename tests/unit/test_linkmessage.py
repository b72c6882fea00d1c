"""Links and addresses out of messages as the kernel writes them; pyroute2's decoder says the same."""

import socket
import struct
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from tapbond.linkmessage import IFADDRMSG, IFINFOMSG, address_of, counters_of, known_link, link_of
from tapbond.model import LINK_COUNTER_FIELDS, Link, LinkCounters
from tapbond.rtmessage import NLMSG, encode_attribute, u32

NESTED = 0x8000
RTM_NEWLINK = 16
COUNTS = range(1, len(LINK_COUNTER_FIELDS) + 1)

VLAN = encode_attribute(1, struct.pack("=H", 42)) + encode_attribute(5, struct.pack("!H", 0x88A8))
FULL = IFINFOMSG.pack(socket.AF_UNSPEC, 1, 7, 0x10003, 0) + b"".join(
    (
        encode_attribute(3, b"eth7\0"),
        encode_attribute(1, bytes.fromhex("020000000107")),
        encode_attribute(54, bytes.fromhex("020000000108")),
        encode_attribute(4, u32(1400)),
        encode_attribute(50, u32(68)),
        encode_attribute(51, u32(65535)),
        encode_attribute(6, b"noqueue\0"),
        encode_attribute(10, u32(9)),
        encode_attribute(20, b"a line\0"),
        encode_attribute(30, u32(2)),
        encode_attribute(61, u32(1)),
        encode_attribute(5, u32(3)),
        encode_attribute(18 | NESTED, encode_attribute(1, b"vlan\0") + encode_attribute(2 | NESTED, VLAN)),
        encode_attribute(26, encode_attribute(socket.AF_INET6, encode_attribute(8, b"\1"))),
        encode_attribute(52 | NESTED, encode_attribute(53, b"one\0") + encode_attribute(53, b"two\0")),
        encode_attribute(23, struct.pack(f"={len(COUNTS)}Q", *COUNTS)),
        encode_attribute(999, b"of a later kernel"),
    )
)


def test_every_field() -> None:
    assert link_of(FULL, 5) == Link(
        ifindex=7,
        name="eth7",
        mac="02:00:00:00:01:07",
        permanent_mac="02:00:00:00:01:08",
        mtu=1400,
        up=True,
        carrier=True,
        ethernet=True,
        master=9,
        kind="vlan",
        qdisc="noqueue",
        addr_gen_mode=1,
        min_mtu=68,
        max_mtu=65535,
        promiscuity=2,
        allmulti=1,
        parent=3,
        vlan=(0x88A8, 42),
        alias="a line",
        altnames=frozenset({"one", "two"}),
        netns=5,
    )


def test_the_same_as_pyroute2_says() -> None:
    link = link_of(FULL)
    whole = NLMSG.pack(NLMSG.size + len(FULL), RTM_NEWLINK, 0, 0, 0) + FULL
    (told,) = MarshalRtnl().parse(whole)
    assert told["index"] == link.ifindex
    for attribute, value in (
        ("IFLA_IFNAME", link.name),
        ("IFLA_ADDRESS", link.mac),
        ("IFLA_MTU", link.mtu),
        ("IFLA_MASTER", link.master),
        ("IFLA_QDISC", link.qdisc),
        ("IFLA_IFALIAS", link.alias),
        ("IFLA_PROMISCUITY", link.promiscuity),
        ("IFLA_MIN_MTU", link.min_mtu),
        ("IFLA_MAX_MTU", link.max_mtu),
        ("IFLA_LINK", link.parent),
    ):
        assert told.get_attr(attribute) == value
    info = told.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == link.kind
    assert info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_VLAN_ID") == 42


def test_a_parent_elsewhere_means_nothing_here() -> None:
    assert link_of(FULL + encode_attribute(37, u32(0))).parent == 0


def test_what_is_not_told_is_empty() -> None:
    bare = IFINFOMSG.pack(socket.AF_UNSPEC, 772, 1, 0, 0) + encode_attribute(3, b"lo\0")
    assert link_of(bare) == Link(ifindex=1, name="lo", mac="", mtu=0, ethernet=False)
    assert counters_of(bare) is None


def test_counters_also_of_a_kernel_that_has_fewer() -> None:
    assert counters_of(FULL) == LinkCounters(**dict(zip(LINK_COUNTER_FIELDS, COUNTS, strict=True)))
    fewer = IFINFOMSG.pack(0, 1, 1, 0, 0) + encode_attribute(23, struct.pack("=3Q", 1, 2, 3))
    assert counters_of(fewer) == LinkCounters(**dict(zip(LINK_COUNTER_FIELDS[:3], (1, 2, 3), strict=True)))


def test_a_message_that_is_known_is_not_decoded_again() -> None:
    assert known_link(FULL, 5) is known_link(bytes(bytearray(FULL)), 5)
    assert known_link(FULL, 6).netns == 6


@given(st.integers(0, len(FULL)))
def test_one_that_is_cut_short_raises_what_is_expected(length: int) -> None:
    try:
        link_of(FULL[:length])
    except (ValueError, struct.error):
        return
    assert length >= IFINFOMSG.size


@pytest.mark.parametrize("text", ["192.0.2.1/24", "2001:db8::1/64", "fe80::1/10"])
def test_addresses(text: str) -> None:
    wanted = ip_interface(text)
    family = socket.AF_INET if wanted.version == 4 else socket.AF_INET6
    header = IFADDRMSG.pack(family, wanted.network.prefixlen, 0, 0, 7)
    assert address_of(header + encode_attribute(1, wanted.packed)) == (7, wanted)
    other_end = encode_attribute(1, bytes(len(wanted.packed)))
    assert address_of(header + other_end + encode_attribute(2, wanted.packed)) == (7, wanted)
