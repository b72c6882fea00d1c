"""A guest where the kernel's net_failover owns the pair: what rtnetlink(7) tells of it, and the refusal.

The messages are made of the attributes that `ip -d link` shows in a guest with virtio_net
in standby mode and a VF; with ``bus`` as Linux 5.14 and later tell it.
"""

import struct

import pytest

from tapbond import kernelpair
from tapbond.errors import RefusedError
from tapbond.linkmessage import link_of
from tapbond.model import Link, Role
from tapbond.registry import Registry
from tapbond.rtmessage import encode_attribute

MAC = "52:54:00:00:12:53"
ARPHRD_ETHER = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 10, 18
IFLA_INFO_KIND = 1
IFLA_PARENT_DEV_NAME, IFLA_PARENT_DEV_BUS_NAME = 56, 57


def told(ifindex: int, name: str, *, master: int = 0, kind: str = "", bus: str = "", device: str = "") -> Link:
    """Return the Link of an RTM_NEWLINK message with these attributes."""
    body = struct.pack("=BxHiII", 0, ARPHRD_ETHER, ifindex, 0x11043, 0)
    body += encode_attribute(IFLA_IFNAME, name.encode() + b"\0")
    body += encode_attribute(IFLA_ADDRESS, bytes.fromhex(MAC.replace(":", "")))
    if master:
        body += encode_attribute(IFLA_MASTER, struct.pack("=I", master))
    if kind:
        body += encode_attribute(IFLA_LINKINFO, encode_attribute(IFLA_INFO_KIND, kind.encode() + b"\0"))
    if bus:
        body += encode_attribute(IFLA_PARENT_DEV_NAME, device.encode() + b"\0")
        body += encode_attribute(IFLA_PARENT_DEV_BUS_NAME, bus.encode() + b"\0")
    return link_of(body)


def guest(*, bus: str = "virtio", kind: str = "") -> dict[int, Link]:
    """Return the document's three interfaces: ens10, ens10nsby, ens11."""
    links = (
        told(4, "ens10", bus=bus, device="virtio0", kind=kind),
        told(5, "ens10nsby", bus=bus, device="virtio0", master=4),
        told(7, "ens11", bus="pci" if bus else "", device="0000:42:02.5", master=4),
    )
    return {link.ifindex: link for link in links}


def refused(links: dict[int, Link], name: str, role: Role = Role.STANDBY) -> str:
    registry = Registry("tb0", MAC, "ens10nsby", "ens11")
    link = next(link for link in links.values() if link.name == name)
    with pytest.raises(RefusedError) as error:
        registry.check(link, role, links)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "role"), [("ens10nsby", Role.STANDBY), ("ens11", Role.PRIMARY)])
def test_a_slave_of_net_failover_is_refused_with_the_way_out(name: str, role: Role) -> None:
    assert refused(guest(), name, role) == (
        f"{name}: the kernel's net_failover owns this pair already (it is a slave of ens10; slaves: ens10nsby,"
        " ens11): use ens10 as it is, or start the guest with failover=off on the virtio NIC (libvirt: no"
        " <teaming>)"
    )


def test_its_master_is_refused_too() -> None:
    assert "net_failover owns this pair already (it is ens10; slaves: ens10nsby, ens11)" in refused(
        guest(), "ens10"
    )


def test_it_is_refused_while_its_primary_is_unplugged() -> None:
    links = guest()
    del links[7]
    assert "slaves: ens10nsby)" in refused(links, "ens10nsby")


def test_before_linux_5_14_the_driver_is_not_told_apart() -> None:
    assert "a driver of the kernel (net_failover, netvsc) owns this pair" in refused(guest(bus=""), "ens11")


def test_hyper_vs_pair_is_called_by_its_name() -> None:
    assert "Hyper-V's netvsc owns this pair" in refused(guest(bus="vmbus"), "ens11")


@pytest.mark.parametrize("kind", ["bridge", "bond", "team", "vrf", "openvswitch", "hsr", "batadv"])
def test_masters_with_a_kind_are_none_of_it(kind: str) -> None:
    links = guest(bus="", kind=kind)
    assert kernelpair.refusal(links[5], links) == ""
    assert "already a port of ens10 (free it: ip link set ens10nsby nomaster)" in refused(links, "ens10nsby")


def test_a_link_without_slaves_is_none_of_it() -> None:
    links = {4: told(4, "ens10", bus="virtio", device="virtio0")}
    assert kernelpair.refusal(links[4], links) == ""
