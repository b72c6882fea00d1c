"""The pump: who else speaks through the TAP, what is said in their names, how often, and what comes back."""

from collections.abc import Iterator, Sequence

import pytest
from rig import (
    BROADCAST,
    GROUP,
    MAC,
    OWN,
    PEER,
    ZERO_VNET,
    Rig,
    frame,
    inbound,
    receive,
    running,
    send,
    waiting,
)

from tapbond._core import ffi, lib
from tapbond.announce import rarp, tagged

OTHER_MAC = "02:00:00:00:0f:0f"
OTHER = bytes.fromhex(OTHER_MAC.replace(":", ""))
SECOND = 10**9
AGE_NS = 300 * SECOND
HELLO = b"\xff" * 6 + OWN + b"\x80\x35" + b"hello" * 10
"""What the control plane has the pump announce."""


def guest(n: int) -> bytes:
    """Return the MAC of a virtual machine."""
    return b"\x52\x54" + n.to_bytes(4, "big")


def says(source: bytes, *tags: tuple[int, int], to: bytes = PEER, n: int = 0) -> bytes:
    """Return a frame that somebody sends through the TAP."""
    whole = frame(n, to=to, source=source)
    return whole[:10] + tagged(whole[10:], tags)


async def speaks(rig: Rig, *frames: bytes, port: int = 0) -> None:
    """Let somebody behind the TAP send, and wait until it has left."""
    await send(rig.host, frames)
    await receive(rig.far[port], len(frames))


async def announced(rig: Rig, port: int) -> list[bytes]:
    """Return what has been announced on a port: all that came before a frame of the host's."""
    mark = frame(b"mark")
    found: list[bytes] = []
    await send(rig.host, [mark])
    while mark not in found:
        found += await receive(rig.far[port], 1)
    assert all(one.startswith(ZERO_VNET) for one in found[:-1])
    return [one[10:] for one in found[:-1]]


# Who is learned, and what is announced.


async def test_a_source_behind_the_tap_is_announced_at_a_switch_after_the_failover() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        await speaks(rig, says(guest(1)), says(OWN), says(guest(2)), says(guest(1)))
        await rig.order(1, 0)
        found = await announced(rig, 1)
        assert found[0] == HELLO
        assert sorted(found[1:]) == [rarp(guest(1)), rarp(guest(2))]
        assert rig.pump.counters(1).announced == 3


async def test_a_source_is_announced_by_a_fault_on_its_very_first_frame() -> None:
    async with running() as rig:
        rig.far[0].close()
        await send(rig.host, [says(guest(1))])
        assert await receive(rig.far[1], 2) == [ZERO_VNET + rarp(guest(1)), says(guest(1))]


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
async def test_a_source_in_a_vlan_is_announced_in_it(tpid: int) -> None:
    tag, inner = (tpid, 0x0ABC), (0x8100, 7)
    async with running() as rig:
        with_priority = (tpid, 0xEABC)
        await speaks(rig, says(guest(1), with_priority, inner), says(OWN, tag), says(guest(1)))
        await rig.order(1, 0)
        expected = [tagged(rarp(guest(1)), [tag]), tagged(rarp(OWN), [tag]), rarp(guest(1))]
        assert sorted(await announced(rig, 1)) == sorted(expected)


async def test_a_tag_that_is_a_priority_only_is_no_vlan() -> None:
    async with running() as rig:
        await speaks(rig, says(guest(1), (0x8100, 0xE000)), says(OWN, (0x8100, 0x2000)))
        await rig.order(1, 0)
        assert await announced(rig, 1) == [rarp(guest(1))]


async def test_nobody_can_have_a_group_address_or_none_and_a_runt_is_from_nobody() -> None:
    async with running() as rig:
        cut = says(guest(2), (0x8100, 5))[: 10 + 15]
        await speaks(rig, says(b"\x01" + bytes(5)), says(bytes(6)), b"runt", cut)
        await rig.order(1, 0)
        assert await announced(rig, 1) == [rarp(guest(2))]  # untagged: there is no whole tag


async def test_the_table_is_full_some_day_and_the_newest_stay() -> None:
    async with running() as rig:
        for first in range(0, 1000, 50):
            await speaks(rig, *(says(guest(n)) for n in range(first, first + 50)))
        await rig.order(1, 0)
        found = await announced(rig, 1)
        assert 200 < len(found) <= lib.TB_SOURCES_MAX
        assert len(set(found)) == len(found)
        assert set(found) <= {rarp(guest(n)) for n in range(1000)}
        assert rarp(guest(999)) in found


async def test_a_new_mac_is_announced_by_others_and_so_is_the_one_before_it() -> None:
    """Frames under way when the MAC changes are not those of a stranger (mac policy follow)."""
    async with running() as rig:
        await speaks(rig, says(OTHER), says(OTHER, (0x8100, 9)), says(guest(1)))
        rig.pump.set_announcements(OTHER_MAC, [])
        await rig.order(0, 1)
        await speaks(rig, says(OWN), says(OTHER))
        await rig.order(1, 0)
        assert await announced(rig, 1) == [rarp(guest(1))]


async def test_who_speaks_elsewhere_now_is_not_announced() -> None:
    """A virtual machine that moved to another host says so to all."""
    async with running() as rig:
        await speaks(rig, says(guest(1)), says(guest(2)))
        await send(rig.far[0], [frame(1, to=BROADCAST, source=guest(1)), frame(2, to=OWN, source=guest(2))])
        assert len(await receive(rig.host, 2)) == 2
        await rig.order(1, 0)
        assert await announced(rig, 1) == [rarp(guest(2))]


# Ageing, which has to be asked of the table itself: the pump's clock cannot be moved.


@pytest.fixture
def table() -> Iterator[object]:
    made = lib.tb_sources_new()
    yield made
    lib.tb_sources_free(made)


def knows(table: object, source: bytes, now_ns: int) -> bool:
    whole = says(source)
    return bool(lib.tb_sources_knows(table, ffi.from_buffer("uint8_t[]", whole), len(whole), now_ns))


def learn(table: object, source: bytes, now_ns: int) -> None:
    whole = says(source)
    lib.tb_sources_learn(table, ffi.from_buffer("uint8_t[]", whole), len(whole), now_ns)


def test_a_source_that_is_silent_for_five_minutes_is_forgotten(table: object) -> None:
    learn(table, guest(1), SECOND)
    assert knows(table, guest(1), SECOND + AGE_NS - 1)
    assert not knows(table, guest(1), SECOND + AGE_NS)
    assert not knows(table, guest(2), SECOND)


def test_every_frame_makes_its_source_young_again(table: object) -> None:
    for n in range(10):
        learn(table, guest(1), SECOND + n * AGE_NS // 2)
        learn(table, guest(1), SECOND + n * AGE_NS // 2)
    assert knows(table, guest(1), SECOND + 9 * AGE_NS // 2 + AGE_NS - 1)


def test_of_sources_that_share_a_place_the_one_that_was_silent_longest_goes(table: object) -> None:
    count = 4 * lib.TB_SOURCES_MAX
    for n in range(count):
        learn(table, guest(n), SECOND + n)
        assert knows(table, guest(n), SECOND + n)
    alive = [n for n in range(count) if knows(table, guest(n), SECOND + count)]
    assert len(alive) == lib.TB_SOURCES_MAX
    assert set(range(count - lib.TB_SOURCES_MAX // 8, count)) <= set(alive)


# What comes back.


async def delivered(rig: Rig, port: int, *frames: bytes) -> list[bytes]:
    await send(rig.far[port], frames)
    await rig.barrier(port)
    return waiting(rig.host)


def echoes() -> Sequence[bytes]:
    return (
        frame(1, to=OTHER, source=guest(1)),
        frame(2, to=OTHER, source=OWN),
        says(guest(2), (0x8100, 5), to=OTHER),
    )


async def test_what_left_by_the_tap_does_not_come_back_in_a_drain_on_either_slave() -> None:
    """A bridge would believe that its own guest lives behind the TAP."""
    async with running() as rig:
        await speaks(rig, says(guest(1)), says(guest(2), (0x8100, 5)))
        await rig.order(1, 0)
        for port in (0, 1):
            assert await delivered(rig, port, *echoes(), inbound(3)) == ([inbound(3)] if port == 0 else [])
        assert (await rig.counted(0, rx_dropped=3)).rx_frames == 1


async def test_the_sender_may_hear_anybody_when_no_drain_is_on() -> None:
    async with running() as rig:
        await speaks(rig, says(guest(1)), says(guest(2), (0x8100, 5)))
        assert await delivered(rig, 0, *echoes()) == list(echoes())


async def test_with_rx_any_a_flooded_copy_on_another_slave_is_an_echo() -> None:
    async with running() as rig:
        await rig.order(0, 1, receive={0, 1})
        await speaks(rig, says(guest(1)))
        copy = frame(1, to=GROUP, source=guest(1))
        assert await delivered(rig, 1, copy, frame(2, to=GROUP, source=guest(3))) == [
            frame(2, to=GROUP, source=guest(3))
        ]


# How often.


async def test_each_round_announces_everything_once_more_on_the_sender() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        await speaks(rig, says(guest(1)))
        for _ in range(3):
            rig.pump.announce_again()
            await rig.order(0, 1)
            assert await announced(rig, 0) == [HELLO, rarp(guest(1))]
        await rig.order(1, 0)
        await rig.order(1)
        assert await announced(rig, 1) == [HELLO, rarp(guest(1))]


async def test_rounds_that_replace_each_other_are_all_announced() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        for _ in range(20):
            rig.pump.announce_again()
        await rig.order(0, 1)
        assert await announced(rig, 0) == [HELLO] * 20


async def test_without_a_sender_a_round_is_silent_and_over() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        await rig.order()
        rig.pump.announce_again()
        await rig.order()
        await rig.order(1)
        assert await announced(rig, 1) == [HELLO]


async def test_a_silent_pump_announces_nobody_until_it_is_asked_to() -> None:
    async with running(silent=True) as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        await rig.order(1, 0)
        assert await announced(rig, 1) == []
        assert rig.pump.counters(1).announced == 0
        rig.pump.announce_again()
        await rig.order(1, 0)
        assert await announced(rig, 1) == [HELLO]


async def test_what_the_control_plane_sends_waits_until_its_selection_is_in_force() -> None:
    """Sooner, a switch would learn the way to a slave whose gate is closed."""
    async with running() as rig:
        await rig.order(0)
        rig.pump.set_announcements(MAC, [HELLO])
        rig.pump.send(1, b"report" * 10)
        await rig.caught_up()
        assert await receive(rig.far[1], 1) == [ZERO_VNET + b"report" * 10]
        await rig.pump.detach(1)
        rig.pump.send(1, b"nobody")


async def test_announcements_beyond_those_of_the_pump_are_sent_by_hand() -> None:
    told = [PEER + OWN + b"\x80\x35" + n.to_bytes(4, "big") * 12 for n in range(lib.TB_ANNOUNCE_MAX + 20)]
    told.insert(3, b"\xee" * (lib.TB_ANNOUNCE_LEN + 1))
    async with running() as rig:
        rig.pump.set_announcements(MAC, told)
        await rig.order(1, 0)
        assert await announced(rig, 1) == [one for one in told if one[0] != 0xEE][: lib.TB_ANNOUNCE_MAX]
        rig.pump.announce(1)
        found = [one[10:] for one in await receive(rig.far[1], 21)]
        assert found == [told[3], *told[-20:]]
