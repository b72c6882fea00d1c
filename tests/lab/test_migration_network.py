"""The host's side of a migration against the kernel: forwarding tables and MACs of VFs.

                     host
outside ── up0 ──────[ br0 ]────── tap0 ── guest
"""

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from tapbond.errors import LinkRequestError, NoSuchInterfaceError
from tapbond.lab.namespace import Namespace
from tapbond.migration.facts import FdbEntry
from tapbond.migration.kernel import NTF_MASTER, NUD_NOARP, NUD_PERMANENT, KernelNetwork

pytestmark = pytest.mark.namespaces

MAC = "52:54:00:00:12:53"
UPLINK = FdbEntry(mac=MAC, link="up0", master=False)
TAP = FdbEntry(mac=MAC, link="tap0", master=True)
ETHERTYPE = 0x88B5
DEADLINE_S = 10.0


def set_up(namespace: Namespace, name: str, **more: int) -> None:
    index = namespace.index_of(name)
    namespace.netlink(lambda ipr: ipr.link("set", index=index, state="up", **more))


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace("host") as host, Namespace("outside") as outside, Namespace("guest") as guest:
        for inside, name in ((outside, "up0"), (guest, "tap0")):
            host.netlink(
                lambda ipr, inside=inside, name=name: ipr.link(
                    "add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": inside.fd}
                )
            )
        host.netlink(lambda ipr: ipr.link("add", ifname="br0", kind="bridge", br_mcast_snooping=0))
        bridge = host.index_of("br0")
        for name in ("up0", "tap0"):
            set_up(host, name, master=bridge)
        set_up(host, "br0")
        for inside in (outside, guest):
            set_up(inside, "eth0")
        host.outside, host.guest = outside, guest  # type: ignore[attr-defined]
        yield host


@pytest.fixture
async def network(host: Namespace) -> KernelNetwork:
    network = KernelNetwork(host.path)
    await network.open()
    yield network  # type: ignore[misc]
    await network.close()


def frame(destination: str, source: str, mark: bytes) -> bytes:
    macs = bytes.fromhex((destination + source).replace(":", ""))
    return macs + ETHERTYPE.to_bytes(2) + mark.ljust(46, b"\0")


def packet_socket(namespace: Namespace) -> socket.socket:
    made = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    namespace.run(made.bind, ("eth0", ETHERTYPE))
    made.settimeout(DEADLINE_S)
    return made


def arrives_in_guest(host: Namespace) -> bool:
    """Send a frame for the guest, then one for everybody, and say whether the guest got the first."""
    with packet_socket(host.outside) as sender, packet_socket(host.guest) as receiver:  # type: ignore[attr-defined]
        sender.send(frame(MAC, "02:00:00:00:00:09", b"one"))
        sender.send(frame("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:09", b"all"))
        return receiver.recv(2048)[14:17] == b"one"


def add_by_hand(host: Namespace, link: str, state: int) -> None:
    index = host.index_of(link)
    host.netlink(lambda ipr: ipr.fdb("add", ifindex=index, lladdr=MAC, state=state, flags=NTF_MASTER))


def test_kernel_keeps_the_frames_of_the_documents_own_entry_for_the_bridge(host: Namespace) -> None:
    """``bridge fdb add MAC dev TAP master``: a local entry, so nothing is forwarded. Hence ``static``."""
    add_by_hand(host, "tap0", NUD_PERMANENT)
    assert not arrives_in_guest(host)


def test_kernel_forwards_by_a_static_entry(host: Namespace) -> None:
    add_by_hand(host, "tap0", NUD_NOARP)
    assert arrives_in_guest(host)


async def test_entries_are_made_found_and_removed(host: Namespace, network: KernelNetwork) -> None:
    assert await network.entries(MAC) == []
    for entry in (UPLINK, TAP):
        await network.add(entry)
        await network.add(entry)
    assert await network.entries(MAC) == [TAP, UPLINK]
    assert arrives_in_guest(host)
    for entry in (UPLINK, TAP):
        await network.remove(entry)
        await network.remove(entry)
    assert await network.entries(MAC) == []


async def test_what_the_bridge_has_learned_is_replaced(host: Namespace, network: KernelNetwork) -> None:
    with packet_socket(host.outside) as sender, packet_socket(host.guest) as receiver:  # type: ignore[attr-defined]
        sender.send(frame("ff:ff:ff:ff:ff:ff", MAC, b"learn"))
        receiver.recv(2048)
    assert await network.entries(MAC) == []
    assert not arrives_in_guest(host)  # the bridge believes that it is outside
    await network.add(TAP)
    assert await network.entries(MAC) == [TAP]
    assert arrives_in_guest(host)


async def test_an_entry_of_a_link_that_has_gone_is_fine_to_remove_and_not_to_add(
    host: Namespace, network: KernelNetwork
) -> None:
    await network.add(TAP)
    index = host.index_of("tap0")
    host.netlink(lambda ipr: ipr.link("del", index=index))
    await network.remove(TAP)
    with pytest.raises(NoSuchInterfaceError, match="tap0"):
        await network.add(TAP)


async def test_a_device_without_a_link_here_has_none(network: KernelNetwork) -> None:
    assert await network.link_of("0000:42:00.0") == ""


async def test_the_kernel_understands_the_message_of_a_vfs_mac(network: KernelNetwork) -> None:
    """A veth has no VFs, which the kernel only finds out when it has read the message."""
    with pytest.raises(LinkRequestError, match="up0: cannot set the MAC of VF 1") as error:
        await network.set_vf_mac("up0", 1, MAC)
    assert error.value.code == errno.EOPNOTSUPP
    assert await network.vf_mac("up0", 1) is None


@pytest.mark.parametrize("ask", [lambda n: n.vf_mac("ens9", 1), lambda n: n.set_vf_mac("ens9", 1, MAC)])
async def test_a_pf_that_is_not_there_is_named(network: KernelNetwork, ask: Callable[..., object]) -> None:
    with pytest.raises(NoSuchInterfaceError, match="ens9"):
        await ask(network)  # type: ignore[misc]
