"""What is announced, and how often: on a virtual clock, with a fake pump and fake links."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.announce import announcements, gratuitous_arp, rarp, tagged, unsolicited_na
from tapbond.announcer import Announcer
from tapbond.groups import igmp_report
from tapbond.model import Decision, Link
from tapbond.stack import Voice, voices
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

MAC = "02:00:5e:10:00:01"
OTHER = "02:00:5e:10:00:02"
MS = 1_000_000
IGMP_OF_TB0 = "Idx Device : Count Querier Group Users Timer Reporter\n{index}\ttb0 : 1 V3\n\t\t{group} 1 0:0 0\n"


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


class Stage:
    """A failover tb0 with the ports 0 (eth0) and 1 (eth1)."""

    def __init__(self, count: int = 3, interval_ns: int = 100 * MS) -> None:
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock)
        self.pump = FakePump(self.clock, self.network)
        self.proc = {"igmp": "", "igmp6": ""}
        self.announcer = Announcer(
            self.pump, self.network.links, count=count, interval_ns=interval_ns, read=self.proc.__getitem__
        )
        self.tap = self.network.add("tb0", MAC)
        for name in ("eth0", "eth1"):
            self.pump.attach(self.network.add(name, MAC))
        self.network.links.listen(self)
        self.announcer.introduce(self.tap.ifindex, MAC)

    def link_changed(self, _link: Link, _when_ns: int, _detector: object) -> None:
        self.announcer.refresh()

    def link_removed(self, _link: Link, _when_ns: int) -> None:
        self.announcer.refresh()

    def addresses_changed(self, _ifindex: int) -> None:
        self.announcer.refresh()

    def sends(self, *order: int) -> None:
        """Let the pump send on the first of these from now on, and tell the announcer."""
        decision = Decision(
            order=order, receive=frozenset(), receive_sender=True, drain=False, requested=None, wake_ns=None
        )
        self.pump.apply(decision, 0)
        self.announcer.switched(order[0] if order else None)

    def play(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run(scene(), self.clock)


# How often.


@pytest.mark.parametrize("count", [1, 2, 3, 255])
def test_each_switchover_is_announced_so_many_times_in_all(count: int) -> None:
    stage = Stage(count)

    async def scene() -> None:
        for port in (0, 1, 0):
            stage.pump.rounds.clear()
            stage.pump.announced.clear()
            stage.sends(port)
            await asyncio.sleep(60)
            assert stage.pump.rounds == [port] * count
            assert stage.pump.announced == [port] * count

    stage.play(scene)


def test_the_announcements_are_the_interval_apart() -> None:
    stage = Stage(3, 250 * MS)

    async def scene() -> None:
        stage.sends(0)
        assert stage.pump.rounds == [0]
        await asyncio.sleep(0.249)
        assert stage.pump.rounds == [0]
        await asyncio.sleep(0.002)
        assert stage.pump.rounds == [0, 0]
        await asyncio.sleep(0.250)
        assert stage.pump.rounds == [0, 0, 0]

    stage.play(scene)


def test_a_new_switchover_ends_the_sequence_of_the_one_before() -> None:
    stage = Stage(10)

    async def scene() -> None:
        stage.sends(0)
        await asyncio.sleep(0.25)
        stage.sends(1)
        await asyncio.sleep(60)
        assert stage.pump.rounds == [0] * 3 + [1] * 10
        assert stage.pump.announced == [0] * 3 + [1] * 10

    stage.play(scene)


def test_nobody_who_sends_is_nothing_to_announce() -> None:
    stage = Stage(10)

    async def scene() -> None:
        stage.sends(0)
        stage.sends()
        await asyncio.sleep(60)
        assert stage.pump.rounds == [0]

    stage.play(scene)


def test_begin_announces_everything_itself() -> None:
    """After a switchover that changed the MAC, what the pump announced was the old one."""
    stage = Stage(3)

    async def scene() -> None:
        stage.sends(0)
        stage.announcer.introduce(stage.tap.ifindex, OTHER)
        stage.announcer.begin(0)
        await asyncio.sleep(60)
        assert stage.pump.rounds == [0] + [0] * 3
        assert (stage.pump.mac, stage.pump.announcements) == (OTHER, [rarp(raw(OTHER))])

    stage.play(scene)


def test_closed_it_is_silent() -> None:
    stage = Stage(10)

    async def scene() -> None:
        stage.sends(0)
        stage.announcer.close()
        await asyncio.sleep(60)
        assert stage.pump.rounds == [0]

    stage.play(scene)


def test_count_0_is_silent() -> None:
    stage = Stage(0)
    stage.proc["igmp"] = IGMP_OF_TB0.format(index=stage.tap.ifindex, group="FB0000E0")

    async def scene() -> None:
        stage.sends(0)
        stage.announcer.begin(0)
        await asyncio.sleep(60)
        assert stage.pump.rounds == [0]  # a real pump is told to be silent itself
        assert (stage.pump.announced, stage.pump.sent) == ([], [])

    stage.play(scene)


def test_groups_are_reported_with_each_announcement_as_they_are_then() -> None:
    stage = Stage(3)
    stage.network.set_addresses("tb0", {ip_interface("192.0.2.1/24")})
    group = IPv4Address("224.0.0.251")
    report = igmp_report(raw(MAC), IPv4Address("192.0.2.1"), group)
    number = f"{int.from_bytes(group.packed, sys.byteorder):08X}"

    async def scene() -> None:
        stage.sends(1)
        await asyncio.sleep(0)
        assert stage.pump.sent == []
        stage.proc["igmp"] = IGMP_OF_TB0.format(index=stage.tap.ifindex, group=number)
        await asyncio.sleep(60)
        assert stage.pump.sent == [(1, report)] * 2

    stage.play(scene)


def test_the_groups_of_all_are_read_once_a_round() -> None:
    stage = Stage()
    asked: list[str] = []
    stage.announcer._read = lambda name: (asked.append(name), "")[1]

    async def scene() -> None:
        for number in range(20):
            mac = f"02:00:5e:20:00:{number:02x}"
            stage.network.add(f"mv{number}", mac, kind="macvlan", parent=stage.tap.ifindex)
        stage.sends(0)
        assert asked == []  # not before other failovers had their turn
        await asyncio.sleep(0)
        assert sorted(asked) == ["igmp", "igmp6"]
        await asyncio.sleep(60)
        assert sorted(asked) == ["igmp"] * 3 + ["igmp6"] * 3

    stage.play(scene)


# What.


def test_addresses_of_the_tap_are_announced_when_they_change() -> None:
    stage = Stage()
    stage.network.set_addresses("tb0", {ip_interface("2001:db8::1/64"), ip_interface("192.0.2.1/24")})
    assert stage.pump.announcements == [
        rarp(raw(MAC)),
        gratuitous_arp(raw(MAC), IPv4Address("192.0.2.1")),
        unsolicited_na(raw(MAC), IPv6Address("2001:db8::1")),
    ]
    stage.network.set_addresses("tb0", set())
    assert stage.pump.announcements == [rarp(raw(MAC))]


def test_macvlans_and_vlans_on_the_tap_announce_themselves() -> None:
    stage = Stage()
    vlan = stage.network.add("tb0.5", MAC, kind="vlan", parent=stage.tap.ifindex, vlan=(0x8100, 5))
    stage.network.set_addresses("tb0.5", {ip_interface("192.0.2.5/24")})
    stage.network.add("mv0", OTHER, kind="macvlan", parent=vlan.ifindex)
    stage.network.set_addresses("mv0", {ip_interface("192.0.2.6/24")})
    tag = (0x8100, 5)
    expected = [
        rarp(raw(MAC)),
        *announcements(MAC, [IPv4Address("192.0.2.5")], [tag]),
        *announcements(OTHER, [IPv4Address("192.0.2.6")], [tag]),
    ]
    assert stage.pump.announcements == expected
    assert tagged(rarp(raw(OTHER)), [tag]) in expected
    stage.network.change("mv0", up=False)
    assert stage.pump.announcements == expected[:3]
    stage.network.change("mv0", up=True)
    assert stage.pump.announcements == expected
    stage.network.delete("mv0")
    assert stage.pump.announcements == expected[:3]
    stage.network.delete("tb0.5")
    assert stage.pump.announcements == expected[:1]


def test_what_is_not_on_the_tap_is_nobodys_business() -> None:
    stage = Stage()
    stage.network.add("veth0", OTHER, kind="veth", parent=stage.tap.ifindex)
    other = stage.network.add("eth7", OTHER)
    stage.network.add("mv7", OTHER, kind="macvlan", parent=other.ifindex)
    stage.network.set_addresses("mv7", {ip_interface("192.0.2.9/24")})
    assert stage.pump.announcements == [rarp(raw(MAC))]


def test_where_nobody_may_look_the_mac_alone_is_announced() -> None:
    stage = Stage()
    stage.network.set_addresses("tb0", {ip_interface("192.0.2.1/24")})
    stage.announcer.look_at(None)
    stage.announcer.refresh()
    assert stage.pump.announcements == [rarp(raw(MAC))]
    stage.announcer.look_at(stage.network.links)
    stage.announcer.refresh()
    assert len(stage.pump.announcements) == 2


def test_what_shares_the_mac_is_not_announced_twice() -> None:
    stage = Stage()
    stage.network.add("mv0", MAC, kind="macvlan", parent=stage.tap.ifindex)
    assert stage.pump.announcements == [rarp(raw(MAC))]


def test_stacks_of_any_depth_have_their_tags_in_order() -> None:
    links = {
        1: Link(ifindex=1, name="tb0", mac=MAC, up=True),
        5: Link(ifindex=5, name="s", mac=MAC, up=True, kind="vlan", parent=1, vlan=(0x88A8, 10)),
        2: Link(ifindex=2, name="c", mac=MAC, up=True, kind="vlan", parent=5, vlan=(0x8100, 20)),
        3: Link(ifindex=3, name="m", mac=OTHER, up=True, kind="macvtap", parent=2),
        4: Link(ifindex=4, name="n", mac=OTHER, up=True, kind="macvlan", parent=99),
    }
    outer, inner = (0x88A8, 10), (0x8100, 20)
    assert voices(links, 1, MAC) == [
        Voice(ifindex=1, mac=MAC),
        Voice(ifindex=5, mac=MAC, tags=(outer,)),
        Voice(ifindex=2, mac=MAC, tags=(outer, inner)),
        Voice(ifindex=3, mac=OTHER, tags=(outer, inner)),
    ]


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 9), max_size=9))
def test_any_tangle_of_links_has_an_end(parents: dict[int, int]) -> None:
    links = {
        index: Link(ifindex=index, name=f"l{index}", mac=OTHER, up=True, kind="macvlan", parent=parent)
        for index, parent in parents.items()
    }
    found = [voice.ifindex for voice in voices(links, 1, MAC)]
    assert found[0] == 1
    assert len(found) == len(set(found))


def test_a_tag_goes_between_the_addresses_and_the_type() -> None:
    frame = tagged(rarp(raw(MAC)), [(0x88A8, 10), (0x8100, 20)])
    assert frame[:12] == rarp(raw(MAC))[:12]
    assert frame[12:20] == bytes.fromhex("88a8 000a 8100 0014")
    assert frame[20:] == rarp(raw(MAC))[12:]
