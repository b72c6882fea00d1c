"""Messages and lookups of a migration that need SR-IOV hardware, byte by byte and file by file."""

import struct
from pathlib import Path

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from tapbond.migration import PreconditionError, Wishes, plan, survey
from tapbond.migration.facts import Kind
from tapbond.migration.kernel import vf_mac_attribute, vf_macs
from tapbond.migration.step import Site
from tapbond.migration.virtualfunction import physical_function
from tapbond.rtmessage import encode_attribute
from tapbond.testing.hypervisor import PF, FakeHost, World

MAC = "52:54:00:00:12:53"
RTM_NEWLINK, RTM_SETLINK = 16, 19
IFLA_VFINFO_LIST, IFLA_VF_INFO, IFLA_VF_MAC, IFLA_VF_VLAN = 22, 1, 1, 2
NESTED = 0x8000


def ifla_vf_mac(vf: int, mac: str) -> bytes:
    """struct ifla_vf_mac: __u32 vf; __u8 mac[32]."""
    return struct.pack("=I32s", vf, bytes.fromhex(mac.replace(":", "")))


def test_the_message_that_sets_a_vfs_mac() -> None:
    message = ifinfmsg()
    message["index"] = 7
    message["header"]["type"] = RTM_SETLINK
    message["attrs"] = [("IFLA_VFINFO_LIST", vf_mac_attribute(5, MAC))]
    message.encode()
    expected = encode_attribute(
        IFLA_VFINFO_LIST, encode_attribute(IFLA_VF_INFO, encode_attribute(IFLA_VF_MAC, ifla_vf_mac(5, MAC)))
    )
    sent = bytearray(message.data[32:])
    for place in (2, 6):  # whether a nest says that it is one is up to the sender
        (number,) = struct.unpack_from("=H", sent, place)
        struct.pack_into("=H", sent, place, number & ~NESTED)
    assert bytes(sent) == expected


def test_the_answer_that_tells_of_vfs() -> None:
    infos = b""
    for number, mac in ((0, "00:00:00:00:00:00"), (5, MAC)):
        body = encode_attribute(IFLA_VF_MAC, ifla_vf_mac(number, mac))
        body += encode_attribute(IFLA_VF_VLAN, struct.pack("=III", number, 0, 0))
        infos += encode_attribute(IFLA_VF_INFO, body)
    body = struct.pack("=BxHiII", 0, 1, 7, 0x11043, 0) + encode_attribute(IFLA_VFINFO_LIST, infos)
    (message,) = MarshalRtnl().parse(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, 0, 0, 0) + body)
    assert vf_macs(message) == {0: "00:00:00:00:00:00", 5: MAC}


def test_a_link_without_vfs_has_none() -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, 0x11043, 0)
    (message,) = MarshalRtnl().parse(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, 0, 0, 0) + body)
    assert vf_macs(message) == {}


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    devices = tmp_path / "bus/pci/devices"
    for address in ("0000:42:00.0", "0000:42:02.5", "0000:42:02.6"):
        (devices / address).mkdir(parents=True)
    for number, address in ((10, "0000:42:02.6"), (5, "0000:42:02.5")):
        (devices / f"0000:42:00.0/virtfn{number}").symlink_to(devices / address)
    (devices / "0000:42:02.5/physfn").symlink_to(devices / "0000:42:00.0")
    return tmp_path


def test_a_vf_is_found_by_its_pci_address(sysfs: Path) -> None:
    assert physical_function("0000:42:02.5", sysfs) == ("0000:42:00.0", 5)


@pytest.mark.parametrize("pci", ["0000:42:00.0", "0000:42:02.6", "0000:00:00.0"])
def test_what_is_no_vf_has_no_pf(sysfs: Path, pci: str) -> None:
    assert physical_function(pci, sysfs) is None


async def test_the_pf_is_found_by_the_guests_vf(sysfs: Path) -> None:
    host = FakeHost(World(vf_macs={5: MAC}))
    wishes = Wishes(kind=Kind.MIGRATE, domain="vm-01", to="tcp:far:1", sysfs=sysfs)
    facts = await survey(Site(host, host), wishes)
    assert (facts.pf, facts.vf, facts.vf_mac) == (PF, 5, MAC)


async def test_a_vf_whose_pf_is_elsewhere_is_not_passed_over(sysfs: Path) -> None:
    host = FakeHost(World(vf_macs={5: MAC}))
    del host.links[PF]
    wishes = Wishes(kind=Kind.MIGRATE, domain="vm-01", to="tcp:far:1", sysfs=sysfs)
    with pytest.raises(PreconditionError, match=r"its PF 0000:42:00.0 has no interface \(--pf LINK --vf 5"):
        await survey(Site(host, host), wishes)


async def test_a_primary_that_is_no_vf_has_no_mac_to_change(tmp_path: Path) -> None:
    host = FakeHost(World())
    facts = await survey(
        Site(host, host), Wishes(kind=Kind.MIGRATE, domain="vm-01", to="tcp:far:1", sysfs=tmp_path)
    )
    assert facts.pf == ""
    assert "vf-mac" not in [step.key for step in plan(facts)]
