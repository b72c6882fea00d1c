"""The carrier poll over fakes, on a virtual clock, and the C thread that wakes it over a real kernel."""

import asyncio
import gc
import os
import select
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tapbond._core import ffi, lib
from tapbond.model import Detector, Link, Role
from tapbond.poll import COMPARE_S, POLL_S, CarrierPoll
from tapbond.rundir import Lock
from tapbond.slave import Slave
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

MAC = "52:54:00:00:00:01"


async def ask(ready: Callable[[int], bool | None], ifindex: int) -> bool | None:
    """A virtual clock waits for no thread."""
    return ready(ifindex)


class Stage:
    """A poll over eth0 and eth1, and a note of what listeners are told."""

    def __init__(self, tmp_path: Path, interval_s: float = POLL_S) -> None:
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock)
        self.pump = FakePump(self.clock, self.network)
        self.slaves = [
            Slave(self.network.add(name, MAC), Role.PRIMARY, Lock(tmp_path / name, "busy"))
            for name in ("eth0", "eth1")
        ]
        self.told: list[tuple[str, bool, Detector, int]] = []
        self.network.links.listen(self)
        self.poll = CarrierPoll(self.slaves, self.network.links, self.pump, self.clock, interval_s, off_loop=ask)

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        self.told.append((link.name, link.carrier, detector, when_ns))
        for slave in self.slaves:
            if slave.link.ifindex == link.ifindex:
                slave.link = link

    def link_removed(self, link: Link, when_ns: int) -> None:
        self.told.append((link.name, False, Detector.NETLINK, when_ns))

    def addresses_changed(self, ifindex: int) -> None:
        pass


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Stage]:
    def play(scene: Callable[[Stage], Awaitable[None]], **options: float) -> Stage:
        stage = Stage(tmp_path, **options)

        async def main() -> None:
            stage.poll.start()
            await scene(stage)
            stage.poll.stop()

        run(main(), stage.clock)
        return stage

    return play


def test_a_carrier_that_netlink_has_not_told_of_is_found_in_time(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        await asyncio.sleep(0.123)
        stage.network.silent = True
        stage.network.change("eth1", carrier=False)
        lost_ns = stage.clock()
        await asyncio.sleep(COMPARE_S * 1.5)
        ((name, carrier, detector, when_ns),) = stage.told
        assert (name, carrier, detector) == ("eth1", False, Detector.POLL)
        assert 0 < when_ns - lost_ns <= COMPARE_S * 1e9
        stage.network.change("eth1", carrier=True)
        await asyncio.sleep(COMPARE_S * 1.5)
        assert stage.told[-1][:3] == ("eth1", True, Detector.POLL)

    play(scene)


def test_what_is_known_already_is_not_told_again(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth1", carrier=False)
        await asyncio.sleep(10)
        assert [entry[2] for entry in stage.told] == [Detector.NETLINK]

    play(scene)


def test_older_news_of_netlink_is_taken_in_before_what_the_device_says(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.silent = True
        stage.network.change("eth1", up=False, carrier=False)
        stage.network.silent = False  # the event waits on the socket now
        await asyncio.sleep(COMPARE_S * 1.5)
        assert stage.network.links.pending_read == 1
        assert [entry[2] for entry in stage.told] == [Detector.NETLINK]

    play(scene)


def test_a_link_that_is_down_and_one_that_has_gone_are_left_to_netlink(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.change("eth0", up=False, carrier=False)
        stage.network.delete("eth1")
        stage.told.clear()
        await asyncio.sleep(10)
        assert stage.told == []

    play(scene)


def test_slaves_that_come_and_go_are_followed(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        gone = stage.slaves.pop()
        stage.network.silent = True
        stage.network.change(gone.name, carrier=False)
        await asyncio.sleep(10)
        assert stage.told == []
        stage.slaves.append(gone)
        await asyncio.sleep(COMPARE_S * 1.5)
        assert len(stage.told) == 1

    play(scene)


def test_an_interval_of_nothing_means_no_poll(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.network.silent = True
        stage.network.change("eth1", carrier=False)
        await asyncio.sleep(10)
        assert stage.told == []

    play(scene, interval_s=0)


def test_after_the_stop_nothing_is_asked(play: Callable[..., Stage]) -> None:
    async def scene(stage: Stage) -> None:
        stage.poll.stop()
        stage.poll.stop()
        stage.network.silent = True
        stage.network.change("eth1", carrier=False)
        await asyncio.sleep(10)
        assert stage.told == []

    play(scene)


# The thread. It asks a real kernel; what may be asked for without any right is lo, and links that are not there.

ABSENT = 0x7FFFFF00


class Watch:
    """tb_watch with an interval of 1 ms."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            self.handle = lib.tb_watch_new(1, asking.fileno())
        assert self.handle != ffi.NULL
        self.fd = lib.tb_watch_event_fd(self.handle)

    def follow(self, place: int, ifindex: int) -> None:
        lib.tb_watch_follow(self.handle, place, ifindex)

    def news(self) -> int:
        """Wait for news, and return how often there were any."""
        readable, _, _ = select.select([self.fd], [], [], 10)
        assert readable, "no news"
        return os.eventfd_read(self.fd)


@pytest.fixture
def watch() -> Iterator[Watch]:
    found = Watch()
    yield found
    lib.tb_watch_free(found.handle)


def test_each_link_is_news_once(watch: Watch) -> None:
    for place, ifindex in enumerate((socket.if_nametoindex("lo"), ABSENT, ABSENT + 1)):
        watch.follow(place, ifindex)
        assert watch.news() == 1


def test_another_link_in_the_same_place_is_news(watch: Watch) -> None:
    for ifindex in (ABSENT, ABSENT + 1, ABSENT):
        watch.follow(3, ifindex)
        assert watch.news() == 1


def test_a_place_that_is_left_is_no_news(watch: Watch) -> None:
    watch.follow(0, ABSENT)
    assert watch.news() == 1
    watch.follow(0, 0)
    watch.follow(1, ABSENT)
    assert watch.news() == 1


def test_a_watch_that_is_freed_leaves_nothing() -> None:
    lib.tb_watch_free(ffi.NULL)
    gc.collect()  # or what another test dropped goes while we count
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            lib.tb_watch_free(lib.tb_watch_new(1000, asking.fileno()))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert "tapbond-watch" not in names


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_news_of_a_device_make_the_loop_compare(
    tmp_path: Path, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        stage = Stage(tmp_path, interval_s=0.001)
        stage.network.silent = True
        stage.poll.start()
        stage.network.change("eth1", carrier=False)
        stage.slaves.reverse()
        stage.poll.follow()  # for the thread these are other links: as good as a change
        deadline = time.monotonic() + 10
        while not stage.told:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        assert stage.told[0][:3] == ("eth1", False, Detector.POLL)
        stage.poll.stop()
        stage.poll.stop()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
