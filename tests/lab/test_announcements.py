"""What a switchover tells the network: how often, in whose name, and that traffic finds its way without waiting.

guest                            host                      switch               far
                                 tb0 10.53.0.1
mv1 10.54.0.88 (or mv0 in host) ─┤ (macvlans over tb0)
eth0 10.53.0.77 ───────── vm0 ─ hbr ─ tb0 (as a port)
                                 eth0 (standby) ────────── sw0 ┐
                                 eth1 (primary) ────────── sw1 ┴ br0 ─ swf ── eth0 10.53.0.2 (10.54.0.2)
"""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_address

import pytest
from observe import Start, Wire

from tapbond.announce import ETHERTYPE_ARP, ETHERTYPE_IPV6, ETHERTYPE_RARP, ICMPV6, gratuitous_arp, rarp
from tapbond.groups import ETHERTYPE_IPV4, IGMP, IGMPV2_REPORT, MLDV2_REPORT, joined, reports
from tapbond.lab import FAR_V4, HOST_V4, HOST_V6, Lab, Namespace, wait_until
from tapbond.lab.topology import MAC

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

OWN = bytes.fromhex(MAC.replace(":", ""))
VM = "52:54:00:00:00:77"
VM_V4 = "10.53.0.77"
BOX = "52:54:00:00:00:88"
BOX_V4 = "10.54.0.88"
GROUP_V4 = "239.1.2.3"
GROUP_V6 = "ff15::1:2:3"


def raw_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethertype(frame: bytes) -> int:
    return int(struct.unpack("!H", frame[12:14])[0])


def spoken_by(mac: str) -> Callable[[bytes], bool]:
    return lambda frame: frame[6:12] == raw_mac(mac)


def is_announcement(frame: bytes) -> bool:
    return frame[6:12] == OWN and (ethertype(frame) in (ETHERTYPE_ARP, ETHERTYPE_RARP) or is_unsolicited_na(frame))


def is_unsolicited_na(frame: bytes) -> bool:
    """Return whether a frame is a neighbour advertisement to all nodes, unsolicited (RFC 4861, 4.4 and 7.2.6)."""
    to_all = frame[38:54] == ip_address("ff02::1").packed
    return ethertype(frame) == ETHERTYPE_IPV6 and frame[20] == ICMPV6 and to_all and frame[54] == 136


def unsolicited_nas(frames: list[bytes], address: str) -> int:
    """Count those for one address."""
    return sum(is_unsolicited_na(frame) and frame[62:78] == ip_address(address).packed for frame in frames)


def ip(namespace: Namespace, *commands: str) -> None:
    for command in commands:
        namespace.check_output(["ip", *command.split()])


def answers(namespace: Namespace, v4: str) -> bool:
    """Return whether a ping is answered within a second."""
    return " 0% packet loss" in namespace.check_output(["sh", "-c", f"ping -c1 -W1 {v4} || true"])


def switch_sees(lab: Lab, mac: str, port: str) -> None:
    wait_until(lambda: lab.switch_port_of(mac) == port, what=f"the switch to see {mac} on {port}")


def own_garp(address: str) -> bytes:
    return gratuitous_arp(OWN, IPv4Address(address))


@pytest.mark.parametrize("count", [10, 20, 30])
def test_num_grat_arp(lab: Lab, start: Start, count: int) -> None:
    """The kernel's own test (selftests/drivers/net/bonding/bond_options.sh, num_grat_arp): exactly so many."""
    with Wire(lab.switch, "sw0", is_announcement) as sw0, Wire(lab.switch, "sw1", is_announcement) as sw1:
        options = ("--announce", str(count), "--announce-interval", "10")
        process = start(lab, "--standby", "eth0", "--primary", "eth1", *options)
        wait_until(lambda: sw1.frames.count(rarp(OWN)) == count, what="the announcements of the start")
        assert sw0.frames == []
        with Wire(lab.far, "eth0", is_announcement) as far:
            for port, slave in ((sw0, "eth0"), (sw1, None), (sw0, "eth0")):
                port.frames.clear()
                far.frames.clear()
                process.call("Switch", slave=slave)
                wait_until(lambda: far.frames.count(own_garp(HOST_V4)) >= count, what=f"{count} ARPs")
                # Ten intervals later there is nothing more.
                lab.host.check_output(["ping", "-c2", "-i0.1", FAR_V4])
                for seen in (far, port):
                    assert seen.frames.count(own_garp(HOST_V4)) == count
                    assert seen.frames.count(rarp(OWN)) == count
                    assert unsolicited_nas(seen.frames, HOST_V6) == count


def test_a_switchover_by_the_pump_is_announced_as_often(lab: Lab, start: Start) -> None:
    with Wire(lab.switch, "sw0", is_announcement) as sw0:
        process = start(
            lab, "--standby", "eth0", "--primary", "eth1", "--announce", "10", "--announce-interval", "10"
        )
        assert process.status().active == "eth1"  # and who answers has taken in the addresses before
        lab.down("eth1")
        wait_until(lambda: sw0.frames.count(own_garp(HOST_V4)) >= 10, what="the announcements")
        lab.host.check_output(["ping", "-c2", "-i0.1", FAR_V4])
        assert sw0.frames.count(own_garp(HOST_V4)) == 10
        assert process.status().active == "eth0"


def test_a_new_switchover_ends_the_announcements_of_the_one_before(lab: Lab, start: Start) -> None:
    with Wire(lab.switch, "sw0", is_announcement) as sw0, Wire(lab.switch, "sw1", is_announcement) as sw1:
        process = start(
            lab, "--standby", "eth0", "--primary", "eth1", "--announce", "255", "--announce-interval", "10"
        )
        process.call("Switch", slave="eth0")
        wait_until(lambda: sw0.frames.count(rarp(OWN)) > 3, what="announcements on eth0")
        process.call("Switch", slave=None)
        before = sw1.frames.count(rarp(OWN))
        wait_until(lambda: sw1.frames.count(rarp(OWN)) > before + 3, what="announcements on eth1")
        on_eth0 = len(sw0.frames)
        wait_until(lambda: sw1.frames.count(rarp(OWN)) > before + 10, what="more of them")
        assert len(sw0.frames) == on_eth0


def test_silence(lab: Lab, start: Start) -> None:
    with Wire(lab.switch, "sw0", is_announcement) as sw0:
        process = start(lab, "--standby", "eth0", "--primary", "eth1", "--announce", "0")
        lab.host.check_output(["ping", "-c1", FAR_V4])
        process.call("Switch", slave="eth0")
        lab.host.check_output(["ping", "-c2", "-i0.1", FAR_V4])
        assert [frame for frame in sw0.frames if frame in (rarp(OWN), own_garp(HOST_V4))] == []


# Who else speaks through the TAP.


def test_macvlan_bridge_mode(lab: Lab, start: Start) -> None:
    """The bonding macvlan matrix: a macvlan over the failover is announced with its own MAC and address."""
    process = start(lab)
    ip(
        lab.host,
        f"link add mv0 link tb0 address {BOX} type macvlan mode bridge",
        f"addr add {BOX_V4}/24 dev mv0",
        "link set mv0 up",
    )
    ip(lab.far, "addr add 10.54.0.2/24 dev eth0")
    lab.far.check_output(["ping", "-c1", "-W2", BOX_V4])
    assert lab.switch_port_of(BOX) == "sw1"
    for slave, port in (("eth0", "sw0"), (None, "sw1")):
        with Wire(lab.switch, port, spoken_by(BOX)) as wire:
            process.call("Switch", slave=slave)
            wait_until(lambda: len(wire.frames) >= 2, what="its announcement")
        assert wire.frames[:2] == [rarp(raw_mac(BOX)), gratuitous_arp(raw_mac(BOX), IPv4Address(BOX_V4))]
        switch_sees(lab, BOX, port)
        lab.far.check_output(["ping", "-c2", "-i0.1", "-W2", BOX_V4])


@pytest.fixture
def guest() -> Iterator[Namespace]:
    with Namespace("guest") as made:
        yield made


def test_macvlan_in_a_container(lab: Lab, start: Start, guest: Namespace) -> None:
    """Its addresses cannot be seen from here: it is known by what it has sent."""
    process = start(lab)
    with guest.spawn(["sleep", "60"]) as sleeper:
        ip(
            lab.host,
            f"link add mv1 link tb0 address {BOX} type macvlan mode private",
            f"link set mv1 netns {sleeper.pid}",
        )
        sleeper.kill()
    ip(guest, f"addr add {BOX_V4}/24 dev mv1", "link set mv1 up")
    ip(lab.far, "addr add 10.54.0.2/24 dev eth0")
    moves_without_speaking(lab, process.call, BOX, BOX_V4)


def test_linux_bridge_with_the_tap_as_a_port(lab: Lab, start: Start, guest: Namespace) -> None:
    process = start(lab)
    make_bridge(lab, guest)
    moves_without_speaking(lab, process.call, VM, VM_V4)


def test_a_bridged_guest_survives_the_loss_of_the_primary(lab: Lab, start: Start, guest: Namespace) -> None:
    """The guest hears numbered pings all the time; the bridge must not take its echo for a move."""
    process = start(lab)
    make_bridge(lab, guest)
    lab.far.check_output(["ping", "-c1", "-W2", VM_V4])
    for fail, heal in ((lab.down, lab.up), (lab.lose_carrier, lab.restore_carrier)):
        fail("eth1")
        wait_until(lambda: process.status().active == "eth0", what="eth0 to be active")
        switch_sees(lab, VM, "sw0")
        lab.far.check_output(["ping", "-c2", "-i0.1", "-W2", VM_V4])
        heal("eth1")
        wait_until(lambda: process.status().active == "eth1", what="eth1 to be active")
        switch_sees(lab, VM, "sw1")
        lab.far.check_output(["ping", "-c2", "-i0.1", "-W2", VM_V4])


def make_bridge(lab: Lab, guest: Namespace) -> None:
    """Make hbr with the TAP and a guest as ports; the guest has an address in the lab's network."""
    with guest.spawn(["sleep", "60"]) as sleeper:
        ip(
            lab.host,
            "link add hbr type bridge",
            "link set tb0 master hbr",
            f"link add vm0 type veth peer name eth0 address {VM} netns {sleeper.pid}",
            "link set vm0 master hbr",
            "link set vm0 up",
            "link set hbr up",
        )
        sleeper.kill()
    ip(guest, f"addr add {VM_V4}/24 dev eth0", "link set eth0 up")


def moves_without_speaking(lab: Lab, call: Callable[..., None], mac: str, v4: str) -> None:
    """Switch to and fro: the guest answers at once, and the first that the switch hears in its name is a RARP."""
    wait_until(
        lambda: lab.far.check_output(["sh", "-c", f"ping -c1 -W1 {v4} || true"]).count(" 0%"), what="the guest"
    )
    wait_until(lambda: lab.switch_port_of(mac) == "sw1", what="the switch to know the guest")
    for slave, port in (("eth0", "sw0"), (None, "sw1")):
        with Wire(lab.switch, port, spoken_by(mac)) as wire:
            call("Switch", slave=slave)
            switch_sees(lab, mac, port)
            wait_until(lambda: wire.frames, what="the announcement")
            lab.far.check_output(["ping", "-c2", "-i0.1", "-W2", v4])
        assert wire.frames[0] == rarp(raw_mac(mac))


# Multicast groups.


def igmp_reports(frames: list[bytes]) -> list[bytes]:
    """Return the IGMPv2 reports of the group."""
    return [
        frame
        for frame in frames
        if ethertype(frame) == ETHERTYPE_IPV4
        and frame[14 + 9] == IGMP
        and frame[38] == IGMPV2_REPORT
        and frame[42:46] == socket.inet_aton(GROUP_V4)
    ]


def mld_reports(frames: list[bytes]) -> list[bytes]:
    """Return the MLDv2 reports that have the group among their records."""
    group = socket.inet_pton(socket.AF_INET6, GROUP_V6)
    return [
        frame
        for frame in frames
        if ethertype(frame) == ETHERTYPE_IPV6
        and frame[54] == ICMPV6
        and frame[62] == MLDV2_REPORT
        and group in frame[70:]
    ]


@contextmanager
def joining(namespace: Namespace, link: str) -> Iterator[None]:
    """Have a group of each family joined on a link."""
    index = namespace.index_of(link)
    four = struct.pack("=4s4si", socket.inet_aton(GROUP_V4), bytes(4), index)
    six = socket.inet_pton(socket.AF_INET6, GROUP_V6) + struct.pack("=i", index)
    with (
        namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as inet,
        namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as inet6,
    ):
        namespace.run(inet.setsockopt, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, four)
        namespace.run(inet6.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, six)
        yield


def has_link_local(namespace: Namespace, link: str) -> bool:
    shown = namespace.check_output(["ip", "addr", "show", link])
    return "fe80" in shown and "tentative" not in shown


def expected_reports(namespace: Namespace, link: str) -> list[bytes]:
    """Return what is to be sent for a link, by what the kernel tells of it."""
    (found,) = json.loads(namespace.check_output(["ip", "-j", "addr", "show", link]))
    addresses = [ip_address(address["local"]) for address in found["addr_info"]]
    return reports(found["address"], namespace.run(joined, found["ifindex"]), addresses)


def test_groups_are_reported_on_the_new_slave(lab: Lab, start: Start) -> None:
    """What bonding calls resend_igmp."""
    options = ("--announce", "3", "--announce-interval", "10")
    ours = spoken_by(MAC)
    with Wire(lab.switch, "sw1", ours) as sw1, Wire(lab.switch, "sw0", ours) as sw0:
        process = start(lab, "--standby", "eth0", "--primary", "eth1", *options)
        with joining(lab.host, "tb0"):
            # The kernel itself reports once more within a second, which must not be taken for ours. It tells of
            # the link-local address when duplicate address detection is over; until then :: is the sender.
            wait_until(lambda: has_link_local(lab.host, "tb0"), what="fe80::")
            wait_until(lambda: len(mld_reports(sw1.frames)) >= 2, what="the kernel's own reports")
            expected = expected_reports(lab.host, "tb0")
            assert len(igmp_reports(expected)) == len(mld_reports(expected)) == 1
            process.call("Switch", slave="eth0")
            for report in (*igmp_reports(expected), *mld_reports(expected)):
                wait_until(lambda report=report: sw0.frames.count(report) >= 3, what="the reports")
            lab.host.check_output(["ping", "-c2", "-i0.1", FAR_V4])
            assert len(igmp_reports(sw0.frames)) == 3
        # A report never overtakes the announcement: the switch would learn the way before it is open.
        assert ethertype(sw0.frames[0]) == ETHERTYPE_RARP


def test_a_snooping_switch_feeds_the_new_port(lab: Lab, start: Start) -> None:
    """A Linux bridge with snooping on and a querier takes both kinds of report, as ``bridge mdb`` shows."""
    ip(lab.switch, "link set br0 type bridge mcast_snooping 1 mcast_querier 1")
    process = start(lab)

    def groups_on_sw0() -> bool:
        lines = lab.switch.check_output(["bridge", "mdb"]).splitlines()
        on_sw0 = " ".join(line for line in lines if "port sw0" in line)
        return GROUP_V4 in on_sw0 and GROUP_V6 in on_sw0

    with joining(lab.host, "tb0"):
        process.call("Switch", slave="eth0")
        wait_until(groups_on_sw0, what="both groups behind sw0")


def test_the_kernel_tells_in_proc_which_groups_a_link_has_joined(lab: Lab) -> None:
    lab.up("eth0")
    index = lab.host.index_of("eth0")

    def groups(ifindex: int) -> set[str]:
        return {str(group) for group in lab.host.run(joined, ifindex)}

    before = groups(index)
    with joining(lab.host, "eth0"):
        assert groups(index) - before >= {GROUP_V4, GROUP_V6}  # and what its own addresses join meanwhile
        assert GROUP_V4 not in groups(1)


# A sender that is down but may come back (downdelay).


def test_a_link_that_comes_back_within_the_downdelay_was_never_left(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--downdelay", "600000")
    lab.host.check_output(["ping", "-c1", "-W2", FAR_V4])
    for lose, restore in ((lab.down, lab.up), (lab.lose_carrier, lab.restore_carrier)):
        dropped = process.status().counters.tx_dropped
        lose("eth1")
        lost = lab.host.check_output(["sh", "-c", f"ping -c3 -i0.1 -W1 {FAR_V4} || true"])
        assert "100% packet loss" in lost
        status = process.status()
        assert (status.active, len(status.last_switchovers)) == ("eth1", 1)
        if lose == lab.down:
            assert status.counters.tx_dropped > dropped
        restore("eth1")
        wait_until(lambda: answers(lab.host, FAR_V4), what="traffic to go on")
        status = process.status()
        assert (status.active, len(status.last_switchovers)) == ("eth1", 1)


def test_a_link_that_is_gone_is_left_whatever_the_downdelay(lab: Lab, start: Start) -> None:
    process = start(lab, "--standby", "eth0", "--primary", "eth1", "--downdelay", "600000")
    lab.unplug("eth1")
    wait_until(lambda: process.status().active == "eth0", what="eth0 to be active")
    lab.host.check_output(["ping", "-c2", "-i0.1", "-W2", FAR_V4])
