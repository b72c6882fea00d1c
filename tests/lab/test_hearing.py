"""What the failover wants to hear, its slaves hear, and nothing stays behind.

    m1   m2  (namespaces)
    macv1 macv2
      └─┬──┘                     host                          switch           far
       tb0 ═ tapbond ══════════ eth0 (standby), eth1 (primary) ─ br0 ────────── eth0

After dev_addr_lists.sh and bond_macvlan.sh of tools/testing/selftests/drivers/net/bonding. Isolation by nft,
because a bridge itself wants all groups, and every frame of its ports as soon as it has two.
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from observe import Start, Wire, ip_link, raw

from tapbond.datapath.hearing import Hearing
from tapbond.datapath.port import open_port
from tapbond.filters import Filters
from tapbond.inquiry import Inquiry
from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, HOST_V6, Lab, Namespace, wait_until
from tapbond.model import Link
from tapbond.reception import GroupNews
from tapbond.tap import Tap

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "nft")]

NFT = ("--standby", "eth0", "--primary", "eth1", "--isolation", "nft")
GROUP = "01:00:5e:01:02:03"
STATION = "02:00:00:00:00:77"
JOINED = "239.1.2.4"
JOINED_MAC = "01:00:5e:01:02:04"


def heard(namespace: Namespace, link: str) -> set[str]:
    """Return both lists of a device, as ``bridge fdb show`` tells them."""
    entries = json.loads(namespace.check_output(["bridge", "-j", "fdb", "show", "dev", link]) or "[]")
    return {entry["mac"] for entry in entries if "self" in entry.get("flags", [])}


def counts(namespace: Namespace, link: str) -> tuple[int, int]:
    """Return promiscuity and allmulti."""
    found = ip_link(namespace, link)
    return found["promiscuity"], found["allmulti"]


def sh(lab: Lab, command: str) -> None:
    lab.host.check_output(command.split())


# Kernel behaviours relied on.


def test_a_tap_counts_one_promiscuity_for_further_unicast_addresses(lab: Lab) -> None:
    with contextlib.closing(lab.host.run(Tap, "tb0")):
        sh(lab, "ip link set tb0 up")
        before = counts(lab.host, "tb0")
        for station in (STATION, "02:00:00:00:00:78"):
            sh(lab, f"bridge fdb add {station} dev tb0 self")
            assert STATION in heard(lab.host, "tb0")
            assert counts(lab.host, "tb0") == (before[0] + 1, before[1])
        sh(lab, "ip link set tb0 promisc on")
        assert counts(lab.host, "tb0") == (before[0] + 2, before[1])


def test_memberships_show_in_the_lists_of_the_device_and_end_with_the_socket(lab: Lab) -> None:
    lab.up("eth1")
    before = heard(lab.host, "eth1"), counts(lab.host, "eth1")
    link = Link(ifindex=lab.host.index_of("eth1"), name="eth1", mac=lab.mac)
    with lab.host.run(open_port, link) as port:
        hearing = Hearing(port, link)
        group, station = bytes.fromhex(GROUP.replace(":", "")), bytes.fromhex(STATION.replace(":", ""))
        wanted = Filters(multicast=frozenset((group,)), unicast=frozenset((station,)), allmulti=True, promisc=True)
        lab.host.run(hearing.set, wanted)
        assert {GROUP, STATION} <= heard(lab.host, "eth1")
        promiscuity, allmulti = counts(lab.host, "eth1")
        assert promiscuity > before[1][0]
        assert allmulti > before[1][1]
        lab.host.run(hearing.set, Filters(multicast=frozenset((group,))))
        assert STATION not in heard(lab.host, "eth1")
        assert counts(lab.host, "eth1") == before[1]
    assert (heard(lab.host, "eth1"), counts(lab.host, "eth1")) == before


def test_an_inquiry_reads_what_ip_and_bridge_show(lab: Lab) -> None:
    with (
        contextlib.closing(lab.host.run(Tap, "tb0")),
        contextlib.closing(Inquiry(lab.host.socket)) as inquiry,
    ):
        sh(lab, "ip link set tb0 up")
        sh(lab, f"ip maddr add {GROUP} dev tb0")
        sh(lab, f"bridge fdb add {STATION} dev tb0 self")
        sh(lab, "ip link set tb0 allmulticast on")
        filters = inquiry.filters(lab.host.index_of("tb0"))
        assert filters is not None
        addresses = {address.hex(":") for address in filters.multicast | filters.unicast}
        assert addresses == heard(lab.host, "tb0")
        assert (filters.allmulti, filters.promisc) == (True, False)
        sh(lab, "ip link set tb0 promisc on")
        filters = inquiry.filters(lab.host.index_of("tb0"))
        assert filters is not None
        assert filters.promisc
        assert inquiry.filters(12345) is None
        assert inquiry.counters(12345) is None


async def test_news_of_groups_where_the_kernel_has_them(lab: Lab) -> None:
    told: list[None] = []
    others: list[None] = []
    news = GroupNews(lab.host.index_of("eth1"), lambda: told.append(None), lab.host.socket)
    of_another = GroupNews(lab.host.index_of("lo"), lambda: others.append(None), lab.host.socket)
    try:
        if not news.open() or not of_another.open():
            pytest.skip(
                "this kernel does not tell of groups (RTNLGRP_IPV4_MCADDR): they are compared once a second"
            )
        lab.address_failover("eth1")
        for _ in range(1000):
            if told:
                break
            await asyncio.sleep(0.01)
        assert told
        assert not others
    finally:
        news.close()
        of_another.close()


# The lists of the failover reach the slaves.


@contextlib.contextmanager
def added_by_hand(lab: Lab) -> Iterator[str]:
    sh(lab, f"ip maddr add {GROUP} dev tb0")
    yield GROUP
    sh(lab, f"ip maddr del {GROUP} dev tb0")


@contextlib.contextmanager
def joined(lab: Lab) -> Iterator[str]:
    with lab.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        request = socket.inet_aton(JOINED) + socket.inet_aton(HOST_V4)
        lab.host.run(member.setsockopt, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        yield JOINED_MAC


@contextlib.contextmanager
def macvlan(lab: Lab) -> Iterator[str]:
    sh(lab, f"ip link add macv0 link tb0 address {STATION} type macvlan mode bridge")
    sh(lab, "ip link set macv0 up")
    yield STATION
    sh(lab, "ip link del macv0")


@pytest.mark.parametrize("way", [added_by_hand, joined, macvlan])
def test_an_address_appears_on_each_slave_and_vanishes(
    lab: Lab, start: Start, way: Callable[[Lab], contextlib.AbstractContextManager[str]]
) -> None:
    start(lab, *NFT)
    with way(lab) as address:
        for slave in ("eth0", "eth1"):
            wait_until(lambda slave=slave: address in heard(lab.host, slave), what=f"{address} on {slave}")
    for slave in ("eth0", "eth1"):
        wait_until(lambda slave=slave: address not in heard(lab.host, slave), what=f"{slave} without {address}")


@pytest.mark.parametrize(("flag", "place"), [("promisc", 0), ("allmulticast", 1)])
def test_promisc_and_allmulti_reach_each_slave(lab: Lab, start: Start, flag: str, place: int) -> None:
    start(lab, *NFT)
    wait_until(lambda: heard(lab.host, "tb0") <= heard(lab.host, "eth1"), what="the groups")
    before = {slave: counts(lab.host, slave)[place] for slave in ("eth0", "eth1")}
    assert before == {"eth0": 0, "eth1": 0}
    for value, more in (("on", 1), ("off", 0)):
        sh(lab, f"ip link set tb0 {flag} {value}")
        for slave in ("eth0", "eth1"):
            wait_until(
                lambda slave=slave, more=more: counts(lab.host, slave)[place] == more,
                what=f"{flag} {value} on {slave}",
            )


def test_a_primary_plugged_in_again_gets_them(lab: Lab, start: Start) -> None:
    process = start(lab, *NFT)
    with added_by_hand(lab), macvlan(lab):
        wait_until(lambda: {GROUP, STATION} <= heard(lab.host, "eth1"), what="the addresses")
        lab.unplug("eth1")
        lab.plug("eth1")
        wait_until(lambda: process.status().active == "eth1", what="the primary")
        assert {GROUP, STATION} <= heard(lab.host, "eth1")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_all_vanish_with_the_process(lab: Lab, start: Start, how: signal.Signals) -> None:
    for slave in ("eth0", "eth1"):
        sh(lab, f"ip link set {slave} addrgenmode none up")
    before = [(heard(lab.host, slave), counts(lab.host, slave)) for slave in ("eth0", "eth1")]
    process = start(lab, *NFT)
    with lab.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        request = socket.inet_aton(JOINED) + socket.inet_aton(HOST_V4)
        lab.host.run(member.setsockopt, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        sh(lab, f"bridge fdb add {STATION} dev tb0 self")
        sh(lab, "ip link set tb0 promisc on")
        for slave in ("eth0", "eth1"):
            wait_until(lambda slave=slave: {JOINED_MAC, STATION} <= heard(lab.host, slave), what="the addresses")
            wait_until(lambda slave=slave: counts(lab.host, slave)[0] > 0, what="promisc")
        process.stop(how)
        assert [(heard(lab.host, slave), counts(lab.host, slave)) for slave in ("eth0", "eth1")] == before


# Frames for others than the failover itself.


def ping(namespace: Namespace, target: str) -> None:
    """Ping until there is an answer: a switch may have to learn anew where the MAC is, addresses are checked."""

    def answered() -> bool:
        with contextlib.suppress(Exception):
            namespace.check_output(["ping", "-n", "-c1", "-W1", target])
            return True
        return False

    wait_until(answered, timeout=15, what=f"{namespace.name} to reach {target}")


def add_macvlan(lab: Lab, stack: ExitStack, number: int, mode: str) -> Namespace:
    """Put a macvlan over the failover into a namespace of its own, with addresses .1N and ::1N."""
    inside = stack.enter_context(Namespace(f"m{number}"))
    name = f"macv{number}"
    sh(lab, f"ip link add {name} link tb0 type macvlan mode {mode}")
    index = lab.host.index_of(name)
    lab.host.netlink(lambda ipr: ipr.link("set", index=index, net_ns_fd=inside.fd))
    for command in (
        f"ip link set {name} up",
        f"ip addr add 10.53.0.1{number}/24 dev {name}",
        f"ip addr add fd53::1{number}/64 dev {name} nodad",
    ):
        inside.check_output(command.split())
    return inside


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_macvlans_before_and_after_a_switchover(lab: Lab, start: Start, mode: str) -> None:
    """bond_macvlan.sh; in mode bridge alone two macvlans reach each other (vepa needs a switch that reflects)."""
    process = start(lab, *NFT)
    with ExitStack() as stack:
        one, two = (add_macvlan(lab, stack, number, mode) for number in (1, 2))
        pairs = [
            (lab.far, HOST_V4),
            (lab.far, HOST_V6),
            (lab.far, "10.53.0.11"),
            (lab.far, "fd53::11"),
            (lab.far, "10.53.0.12"),
            (lab.far, "fd53::12"),
            (lab.host, str(FAR_V4)),
            (lab.host, str(FAR_V6)),
            (one, str(FAR_V4)),
            (one, str(FAR_V6)),
            (two, str(FAR_V4)),
            (two, str(FAR_V6)),
        ]
        if mode == "bridge":
            pairs += [(one, "10.53.0.12"), (one, "fd53::12"), (two, "10.53.0.11"), (two, "fd53::11")]
        for change, slave in ((None, "eth1"), (lab.lose_carrier, "eth0"), (lab.restore_carrier, "eth1")):
            if change is not None:
                change("eth1")
            wait_until(lambda slave=slave: process.status().active == slave, what=f"{slave} to be active")
            for source, target in pairs:
                ping(source, target)


def test_a_bridge_over_the_failover(lab: Lab, start: Start) -> None:
    """Its other port is a namespace's veth: frames for that MAC arrive, before and after a switchover.

    inner ── eth0 ─ veth ─ inn0 ┐
                                br9 ─ tb0 ═ eth0, eth1 ── switch ── far
    """
    process = start(lab, *NFT)
    with Namespace("inner") as inner:
        sh(lab, "ip link add br9 type bridge")
        sh(lab, "ip link add inn0 type veth peer name inn1")
        index = lab.host.index_of("inn1")
        lab.host.netlink(lambda ipr: ipr.link("set", index=index, net_ns_fd=inner.fd))
        for name in ("inn0", "tb0"):
            sh(lab, f"ip link set {name} master br9 up")
        sh(lab, "ip link set br9 up")
        for command in ("ip link set inn1 up", "ip addr add 10.53.0.21/24 dev inn1"):
            inner.check_output(command.split())
        wait_until(lambda: counts(lab.host, "eth1")[0] > 0, what="promisc on eth1")
        for change, slave in ((None, "eth1"), (lab.lose_carrier, "eth0"), (lab.restore_carrier, "eth1")):
            if change is not None:
                change("eth1")
            wait_until(lambda slave=slave: process.status().active == slave, what=f"{slave} to be active")
            ping(inner, str(FAR_V4))
            ping(lab.far, "10.53.0.21")


def test_a_frame_for_a_stranger_is_delivered(lab: Lab, start: Start) -> None:
    """What the slaves hear the pump delivers: whether the host wants it is the TAP's affair."""
    start(lab, *NFT)
    stranger = bytes.fromhex("0200000000ee") + bytes.fromhex("020000000099") + b"\x88\xb5" + b"stranger".ljust(60)
    with Wire(lab.host, "tb0", lambda frame: frame[12:14] == b"\x88\xb5") as wire, raw(lab.far, "eth0") as sender:
        sh(lab, "ip link set tb0 promisc on")
        sender.send(bytes(10) + stranger)
        wait_until(lambda: wire.frames, what="the frame")
    assert wire.frames[0] == stranger
