"""One socket for all who want to know of a namespace's links: decoded once, and nobody disturbs another."""

import asyncio
import errno
import socket
from collections.abc import Callable
from ipaddress import ip_interface
from typing import Any

import pytest

from tapbond.linkmessage import IFADDRMSG, IFINFOMSG
from tapbond.links import Links
from tapbond.model import Detector, Link
from tapbond.rtmessage import NLMSG, encode_attribute
from tapbond.testing import FakeNetwork, VirtualClock

UP = 0x1
CARRIER = 0x10000
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR = 16, 17, 20
GROUP_STATE = socket.AF_BRIDGE


def message(kind: int, payload: bytes) -> bytes:
    return NLMSG.pack(NLMSG.size + len(payload), kind, 0, 0, 0) + payload


def link(ifindex: int, flags: int = UP, kind: int = RTM_NEWLINK, family: int = 0) -> bytes:
    name = encode_attribute(3, b"eth%d\0" % ifindex)
    return message(kind, IFINFOMSG.pack(family, 1, ifindex, flags, 0) + name)


class Kernel:
    """Opens sockets that hear what is told; each may be made to overflow."""

    def __init__(self) -> None:
        self.opened: list[Kernel.Socket] = []

    class Socket:
        def __init__(self) -> None:
            self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self.overflowed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self.near, name)

        def bind(self, _address: object) -> None:
            pass

        def recv(self, size: int) -> bytes:
            if self.overflowed:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            return self.near.recv(size)

        def close(self) -> None:
            self.near.close()
            self.far.close()

    def __call__(self, *_arguments: int) -> Any:
        self.opened.append(Kernel.Socket())
        return self.opened[-1]

    def tell(self, *messages: bytes) -> None:
        for each in messages:
            self.opened[-1].far.send(each)


class Notes:
    """Remembers what it was told; may fail at it, or do something of its own."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []
        self.act: Callable[[Link], None] = lambda _link: None

    def link_changed(self, found: Link, _when_ns: int, _detector: Detector) -> None:
        self.told.append((found.ifindex, found.carrier))
        self.act(found)

    def link_removed(self, found: Link, _when_ns: int) -> None:
        self.told.append((found.ifindex, False))

    def addresses_changed(self, _ifindex: int) -> None:
        pass


class Stage:
    """Failovers' links of one namespace."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.network = FakeNetwork(VirtualClock(), netns=1)
        self.faults: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, about: self.faults.append(about["exception"])
        )

    async def follow(self) -> tuple[Links, Notes]:
        links, notes = Links(self.network.rtnetlink, open_socket=self.kernel), Notes()
        await links.open()
        links.listen(notes)
        return links, notes


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_however_many_follow_it_is_read_and_decoded_once() -> None:
    stage = Stage()
    followed = [await stage.follow() for _ in range(64)]
    room = followed[0][0]._room
    assert room is not None
    burst = [link(number, UP | CARRIER) for number in range(1, 33)]
    stage.kernel.tell(*burst)
    await until(lambda: all(len(notes.told) == 32 for _, notes in followed))
    assert room.decoded == 32
    assert len(stage.kernel.opened) == 1
    stage.kernel.tell(link(1, family=GROUP_STATE), message(99, b"of something else"))
    stage.kernel.tell(link(40))
    await until(lambda: all(len(notes.told) == 33 for _, notes in followed))
    assert room.decoded == 33
    for links, _ in followed:
        await links.close()


async def test_one_that_fails_goes_on_and_disturbs_no_other() -> None:
    stage = Stage()
    first, failing = await stage.follow()
    second, fine = await stage.follow()

    def fail(found: Link) -> None:
        raise ValueError(found.name)

    failing.act = fail
    stage.kernel.tell(link(1), link(2), link(3))
    await until(lambda: len(fine.told) == 3)
    assert failing.told == fine.told == [(1, False), (2, False), (3, False)]
    assert [str(fault) for fault in stage.faults] == ["eth1", "eth2", "eth3"]
    await first.close()
    await second.close()


async def test_a_broken_message_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    links, notes = await stage.follow()
    stage.kernel.tell(message(RTM_NEWLINK, bytes(3)), message(RTM_NEWLINK, bytes(10)), b"x", link(2))
    await until(lambda: notes.told == [(2, False)])
    assert "cannot read what the kernel tells" in capsys.readouterr().out
    await links.close()


async def test_who_leaves_takes_nothing_along_and_the_last_one_closes() -> None:
    stage = Stage()
    first, left = await stage.follow()
    second, stays = await stage.follow()
    stage.kernel.tell(link(1))
    await first.close()
    await first.close()
    await until(lambda: stays.told == [(1, False)])
    assert left.told == []
    await second.close()
    assert stage.kernel.opened[0].near.fileno() == -1
    third, anew = await stage.follow()
    assert len(stage.kernel.opened) == 2
    stage.kernel.tell(link(5))
    await until(lambda: anew.told == [(5, False)])
    await third.close()


async def test_one_that_leaves_while_it_is_told_is_told_no_more() -> None:
    stage = Stage()
    first, leaving = await stage.follow()
    second, stays = await stage.follow()
    leaving.act = lambda _link: first._waiting.clear()
    stage.kernel.tell(link(1), link(2))
    await until(lambda: len(stays.told) == 2)
    assert leaving.told == [(1, False)]
    await first.close()
    await second.close()


async def test_who_reads_what_is_pending_leaves_the_order_of_the_others_as_it_was() -> None:
    stage = Stage()
    first, reading = await stage.follow()
    second, other = await stage.follow()
    reading.act = lambda _link: first.read_pending()
    stage.kernel.tell(link(1), link(1, UP | CARRIER), link(1))
    first.read_pending()
    assert reading.told == [(1, False), (1, True), (1, False)]
    assert other.told == []
    await until(lambda: len(other.told) == 3)
    assert other.told == reading.told
    await first.close()
    await second.close()


async def test_what_happens_while_all_is_read_comes_after_and_only_for_who_reads() -> None:
    stage = Stage()
    first, reading = await stage.follow()
    second, other = await stage.follow()
    answer = asyncio.Event()
    links = stage.network.rtnetlink.links

    async def slow() -> list[Link]:
        await answer.wait()
        return await links()

    stage.network.rtnetlink.links = slow  # type: ignore[method-assign]
    refresh = asyncio.create_task(first.refresh())
    await asyncio.sleep(0)
    stage.kernel.tell(link(1))
    await until(lambda: other.told == [(1, False)])
    first.read_pending()
    assert reading.told == []
    answer.set()
    await refresh
    assert reading.told == [(1, False)]
    await first.close()
    await second.close()


async def test_lost_events_have_everybody_read_everything_again() -> None:
    stage = Stage()
    followed = [await stage.follow() for _ in range(3)]
    stage.kernel.tell(link(7))
    await until(lambda: all(notes.told for _, notes in followed))
    stage.network.add("eth9", "02:00:00:00:00:09", ifindex=9)
    stage.kernel.opened[-1].overflowed = True
    stage.kernel.opened[-1].far.send(b"\0")
    await until(lambda: all(9 in links.by_index and 7 not in links.by_index for links, _ in followed))
    assert [links.resyncs for links, _ in followed] == [1, 1, 1]
    assert len(stage.kernel.opened) == 2
    stage.kernel.tell(link(11, UP | CARRIER))
    await until(lambda: all(notes.told[-1] == (11, True) for _, notes in followed))
    for links, _ in followed:
        await links.close()


async def test_addresses_and_links_that_go() -> None:
    stage = Stage()
    links, notes = await stage.follow()
    address = ip_interface("192.0.2.1/24")
    header = IFADDRMSG.pack(socket.AF_INET, 24, 0, 0, 7)
    stage.kernel.tell(link(7), message(RTM_NEWADDR, header + encode_attribute(1, address.packed)))
    await until(lambda: links.addresses(7) == [address])
    stage.kernel.tell(link(7, kind=RTM_DELLINK))
    await until(lambda: 7 not in links.by_index)
    assert links.addresses(7) == []
    assert notes.told == [(7, False), (7, False)]
    await links.close()


async def test_a_burst_about_others_links_costs_no_decoding_until_it_is_over() -> None:
    stage = Stage()
    links, notes = await stage.follow()
    stage.kernel.tell(*(link(number, UP | CARRIER) for number in range(1, 65)))
    await until(lambda: len(notes.told) == 64)
    links.mine = {7}.__contains__
    room = links._room
    assert room is not None
    before = room.decoded
    stage.kernel.tell(*(link(number) for number in range(1, 65)))
    await until(lambda: len(notes.told) > 64)
    assert notes.told[64:] == [(7, False)]
    assert room.decoded == before + 1
    await until(lambda: len(notes.told) == 128)
    assert {ifindex for ifindex, found in links.by_index.items() if found.carrier} == set()
    await links.close()


async def test_what_was_left_for_later_keeps_its_order() -> None:
    stage = Stage()
    links, notes = await stage.follow()
    stage.kernel.tell(link(1), link(2))
    await until(lambda: len(notes.told) == 2)
    links.mine = {2}.__contains__
    stage.kernel.tell(link(1, UP | CARRIER), link(2, UP | CARRIER), link(1), link(3), link(1, UP | CARRIER))
    await until(lambda: len(notes.told) == 6)
    assert notes.told[2:] == [(2, True), (1, True), (1, False), (3, False)]  # a new link waits for nothing
    links.mine = {1, 2}.__contains__
    stage.kernel.tell(link(1))
    await until(lambda: len(notes.told) == 8)
    assert notes.told[6:] == [(1, True), (1, False)]
    links.mine = {2}.__contains__
    stage.kernel.tell(link(1, UP | CARRIER), link(1, kind=RTM_DELLINK))
    await until(lambda: len(notes.told) == 10)
    stage.kernel.tell(link(3, UP | CARRIER))
    links.read_pending()
    assert notes.told[8:] == [(1, True), (1, False), (3, True)]
    await links.close()


async def test_what_concerns_one_of_several_waits_for_none() -> None:
    stage = Stage()
    first, one = await stage.follow()
    second, two = await stage.follow()
    stage.kernel.tell(link(1), link(2), link(3))
    await until(lambda: len(one.told) == len(two.told) == 3)
    first.mine, second.mine = {1}.__contains__, {2}.__contains__
    stage.kernel.tell(*(link(number, UP | CARRIER) for number in (1, 2, 3)))
    await until(lambda: len(one.told) >= 5)
    assert one.told[3:] == two.told[3:] == [(1, True), (2, True)]
    await first.close()
    stage.kernel.opened[-1].far.send(link(2))
    await until(lambda: two.told[-1] == (2, False))
    await second.close()


async def test_the_room_outlives_the_one_who_opened_it() -> None:
    stage = Stage()
    first, _ = await stage.follow()
    opener, stage.kernel = stage.kernel, Kernel()
    second, notes = await stage.follow()
    assert stage.kernel.opened == []
    await first.close()
    assert second._room is not None
    second._room.lost()  # the first one's namespace is closed by now
    assert (len(opener.opened), len(stage.kernel.opened)) == (1, 1)
    stage.kernel.tell(link(3))
    await until(lambda: notes.told == [(3, False)])
    await second.close()
