"""Where the TAP is: followed through two fake namespaces."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

from structlog.testing import capture_logs

from tapbond.model import Link
from tapbond.testing import FakeNetns, FakeNetwork, FakePlace, VirtualClock, run
from tapbond.whereabouts import HEARING_S, SETTLE_S, Whereabouts

MAC = "52:54:00:00:00:01"
HOME, AWAY = 1, 2


class Stage:
    """A TAP tb0 in a fake home; it is the Roaming as well."""

    def __init__(self) -> None:
        clock = VirtualClock()
        self.clock = clock
        self.home, self.away = FakeNetwork(clock, HOME), FakeNetwork(clock, AWAY)
        self.name = self.interface = "tb0"
        self.where = HOME
        self.refusal = 0
        self.seen: list[Link] = []
        self.told = 0
        self.ifindex = self.home.add("tb0", MAC, kind="tun").ifindex
        self.home.links.take_in()

    def open_netns(self) -> FakeNetns:
        if self.refusal:
            raise OSError(self.refusal, "no")
        return FakeNetns(self.where)

    def addresses_changed(self) -> None:
        self.told += 1

    def move(self, source: FakeNetwork, to: FakeNetwork) -> None:
        self.where = to.netns
        source.move(self.interface, to)

    def play(self, scene: Callable[[Whereabouts], Awaitable[None]]) -> None:
        async def main() -> None:
            places = FakePlace(self.home), FakePlace(self.away)
            whereabouts = Whereabouts(self, *places, self.seen.append, self.addresses_changed)
            whereabouts.open()
            try:
                await scene(whereabouts)
            finally:
                whereabouts.close()

        run(main(), self.clock)


def test_it_is_told_of_at_once_and_when_it_changes() -> None:
    stage = Stage()

    async def scene(_: Whereabouts) -> None:
        stage.home.change("tb0", mtu=1400)
        stage.home.add("eth0", MAC)
        stage.home.change("tb0", name="wan0")

    stage.play(scene)
    assert [(link.name, link.mtu) for link in stage.seen] == [("tb0", 1500), ("tb0", 1400), ("wan0", 1400)]


def test_it_is_found_where_it_was_moved_to_and_back() -> None:
    stage = Stage()

    async def scene(whereabouts: Whereabouts) -> None:
        stage.move(stage.home, stage.away)
        await asyncio.sleep(2 * SETTLE_S)
        assert (whereabouts.netns, whereabouts.link.netns, whereabouts.link.up) == ("net:[2]", AWAY, False)
        assert whereabouts.place.inode == AWAY
        stage.move(stage.away, stage.home)
        await asyncio.sleep(2 * SETTLE_S)
        assert (whereabouts.netns, whereabouts.link.netns) == ("", HOME)
        assert whereabouts.at_home

    stage.play(scene)


def test_news_that_is_not_heard_is_seen_all_the_same() -> None:
    stage = Stage()

    async def scene(whereabouts: Whereabouts) -> None:
        stage.move(stage.home, stage.away)
        await asyncio.sleep(2 * SETTLE_S)
        stage.away.silent = True
        stage.away.change("tb0", up=True, mtu=1300)
        await asyncio.sleep(HEARING_S + 2 * SETTLE_S)
        assert (whereabouts.link.up, whereabouts.link.mtu) == (True, 1300)

    stage.play(scene)


def test_a_link_that_gets_its_ifindex_is_not_taken_for_it() -> None:
    stage = Stage()

    async def scene(whereabouts: Whereabouts) -> None:
        stage.refusal = errno.EPERM
        before = len(stage.seen)
        stage.move(stage.home, stage.away)
        await asyncio.sleep(2 * SETTLE_S)
        other = stage.home.add("eth7", MAC, ifindex=stage.ifindex, mtu=9000)
        await asyncio.sleep(2 * SETTLE_S)
        assert not whereabouts.is_tap(other)
        assert len(stage.seen) == before

    stage.play(scene)


def test_out_of_sight_is_said_once_and_ends_when_it_comes_home() -> None:
    stage = Stage()

    async def scene(whereabouts: Whereabouts) -> None:
        stage.refusal = errno.EPERM
        stage.move(stage.home, stage.away)
        await asyncio.sleep(5 * HEARING_S)
        assert (whereabouts.netns, whereabouts.blind) == ("?", True)
        stage.refusal = 0
        stage.move(stage.away, stage.home)
        await asyncio.sleep(2 * SETTLE_S)
        assert whereabouts.at_home

    with capture_logs() as logs:
        stage.play(scene)
    assert len([entry for entry in logs if entry["log_level"] == "warning"]) == 1


def test_a_tap_that_was_deleted_is_not_looked_for() -> None:
    stage = Stage()

    async def scene(whereabouts: Whereabouts) -> None:
        stage.refusal = errno.EBADFD
        stage.home.delete("tb0")
        await asyncio.sleep(5 * HEARING_S)
        assert not whereabouts.blind

    with capture_logs() as logs:
        stage.play(scene)
    assert logs == []


def test_one_that_has_just_come_home_is_known_by_its_name() -> None:
    stage = Stage()

    async def scene(whereabouts: Whereabouts) -> None:
        other = Link(ifindex=77, name="tb0", mac=MAC, kind="tun", netns=HOME)
        assert not whereabouts.is_tap(other)  # the TAP is seen, under its own index
        stage.home.delete("tb0")
        assert whereabouts.is_tap(other)
        assert not whereabouts.is_tap(Link(ifindex=77, name="tb0", mac=MAC, netns=HOME))
        assert not whereabouts.is_tap(Link(ifindex=77, name="tb0", mac=MAC, kind="tun", netns=AWAY))
        await asyncio.sleep(0)

    stage.play(scene)
