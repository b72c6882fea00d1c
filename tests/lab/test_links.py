"""rtnetlink as it really is: events overflow, links come and go faster than they are read."""

import asyncio
import errno
import os
import random
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import pytest
import uvloop

from tapbond import Failover
from tapbond._core import lib
from tapbond.errors import LinkRequestError
from tapbond.lab import Lab, Namespace, wait_until
from tapbond.lab.namespace import checked
from tapbond.links import Links
from tapbond.model import Detector, Link
from tapbond.rtnetlink import Rtnetlink

pytestmark = pytest.mark.namespaces

T = TypeVar("T")


class Notes:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}

    def link_changed(self, link: Link, _when_ns: int, _detector: Detector) -> None:
        self.links[link.ifindex] = link

    def link_removed(self, link: Link, _when_ns: int) -> None:
        self.links.pop(link.ifindex)

    def addresses_changed(self, _ifindex: int) -> None:
        pass


def on_uvloop(namespace: Namespace, main: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a coroutine function on uvloop in a thread of its own inside a namespace.

    Not in the namespace's thread: the lab's own changes run there meanwhile.
    """

    def run() -> T:
        checked(lib.tb_netns_enter(namespace.fd), "setns")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


@pytest.mark.parametrize("failures", [0, 1])
def test_an_overrun_is_followed_by_a_resync(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the kernel does not answer the first time."""
    left = [0]

    class Reluctant(Rtnetlink):
        async def links(self) -> list[Link]:
            if left[0]:
                left[0] -= 1
                raise LinkRequestError("rtnetlink", errno.ENOBUFS, "No buffer space available")
            return await super().links()

    monkeypatch.setattr("tapbond.links.AGAIN_S", 0.05)

    async def main() -> None:
        rtnetlink = await Reluctant().open()
        links = Links(rtnetlink, receive_buffer=1)  # the kernel's minimum: a few events
        notes = Notes()
        links.listen(notes)
        await links.open()
        try:
            await rtnetlink.request(
                "v0: add", lambda ipr: ipr.link("add", ifname="v0", kind="veth", peer={"ifname": "v1"})
            )
            async with asyncio.timeout(10):
                while not any(link.name == "v0" for link in notes.links.values()):
                    await asyncio.sleep(0.01)
            v0 = links.by_name("v0")

            def storm(ipr: object) -> None:
                for number in range(200):
                    ipr.link("set", index=v0.ifindex, mtu=1000 + number)  # type: ignore[attr-defined]

            left[0] = failures
            # The loop stands still meanwhile, as if the process had not been scheduled.
            links._rtnetlink._thread.submit(storm, links._rtnetlink._ipr).result()
            async with asyncio.timeout(10):
                while notes.links[v0.ifindex].mtu != 1199:
                    await asyncio.sleep(0.01)
            assert links.resyncs > 0
            assert left == [0]
            await rtnetlink.delete(v0)
            async with asyncio.timeout(10):
                while v0.ifindex in notes.links:
                    await asyncio.sleep(0.01)
        finally:
            await links.close()
            await rtnetlink.close()

    with Namespace("overrun") as namespace:
        on_uvloop(namespace, main)


def test_the_failover_survives_an_overrun(lab: Lab) -> None:
    """Events are lost while the primary is unplugged and plugged: the dump tells of both."""

    async def main() -> None:
        async with Failover("tb0", standby="eth0", primary="eth1") as failover:
            links = failover._parts.places.home.links
            first = links.by_name("eth1").ifindex
            room = links._room
            assert room is not None
            assert room._socket is not None
            asyncio.get_running_loop().remove_reader(room._socket.fileno())
            lab.unplug("eth1")
            lab.plug("eth1")
            room.lost()
            async with asyncio.timeout(10):
                while failover.status().active != "eth1" or links.by_name("eth1").ifindex == first:
                    await asyncio.sleep(0.01)
            assert len(failover.status().slaves) == 2

    on_uvloop(lab.host, main)


def test_cancelled_at_any_moment_nothing_is_left(lab: Lab) -> None:
    """create() under a timeout: what it had done is undone."""

    def names() -> set[str]:
        return {link.get_attr("IFLA_IFNAME") for link in lab.host.netlink(lambda ipr: list(ipr.get_links()))}

    async def main(after_s: float) -> bool:
        failover = Failover("tb0", standby="eth0", primary="eth1")
        try:
            async with asyncio.timeout(after_s):
                await failover.create()
        except TimeoutError:
            return False
        await failover.destroy()
        return True

    before = names()
    chance = random.Random(53)  # noqa: S311
    outcomes = set()
    for _ in range(40):
        outcomes.add(on_uvloop(lab.host, partial(main, chance.uniform(0, 0.04))))
        assert names() == before
    assert False in outcomes


def test_created_and_destroyed_leaves_no_descriptor_or_thread(lab: Lab) -> None:
    async def main() -> None:
        async with Failover("tb0", standby="eth0", primary="eth1"):
            pass

    on_uvloop(lab.host, main)
    before = in_use()
    for _ in range(5):
        on_uvloop(lab.host, main)
    wait_until(
        lambda: all(now <= then for now, then in zip(in_use(), before, strict=True)),
        what="no more descriptors and threads than before",  # fewer: one of the first run's was still ending
    )


def in_use() -> tuple[int, int, int]:
    """Count descriptors, Python's threads and the kernel's, which outlive a join for a moment."""
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(os.listdir("/proc/self/task"))


def test_an_event_and_a_dump_tell_the_same_of_every_link() -> None:
    """Our decoder of both, one with counters and one without, and pyroute2's of the same links."""

    async def main() -> None:
        rtnetlink = await Rtnetlink().open()
        links = Links(rtnetlink)
        await links.open()
        try:
            await rtnetlink.request("links", add)
            v0 = await rtnetlink.find("v0")
            assert v0 is not None
            await rtnetlink.set_up(v0, True)  # of one that is down the kernel does not tell these
            await rtnetlink.add_altname(v0, "another")
            await rtnetlink.set_alias(v0, "a line of text")
            assert await rtnetlink.find("another") is None
            assert await rtnetlink.find("v9") is None
            assert {link.name for link in await rtnetlink.links()} >= {"lo", "v0", "v1", "br9", "mv0"}
            async with asyncio.timeout(10):  # linkwatch takes its time
                while links.by_index != (dumped := {link.ifindex: link for link in await rtnetlink.links()}):
                    links.read_pending()
            v0 = links.by_name("v0")
            assert (v0.altnames, v0.alias, v0.master) == (
                {"another"},
                "a line of text",
                links.by_name("br9").ifindex,
            )
            assert links.by_name("mv0").parent == links.by_name("v1").ifindex
            for message in await rtnetlink.request("links", lambda ipr: list(ipr.get_links())):
                link = dumped[message["index"]]
                assert link.name == message.get_attr("IFLA_IFNAME")
                assert link.mac == message.get_attr("IFLA_ADDRESS")
                assert (link.mtu, link.qdisc) == (message.get_attr("IFLA_MTU"), message.get_attr("IFLA_QDISC"))
                assert link.promiscuity == message.get_attr("IFLA_PROMISCUITY")
                families = message.get_attr("IFLA_AF_SPEC")
                inet6 = families.get_attr("AF_INET6") if families else None
                assert link.addr_gen_mode == (inet6.get_attr("IFLA_INET6_ADDR_GEN_MODE") if inet6 else None)
        finally:
            await links.close()
            await rtnetlink.close()

    def add(ipr: Any) -> None:
        ipr.link("add", ifname="v0", kind="veth", peer={"ifname": "v1"})
        ipr.link("add", ifname="br9", kind="bridge")
        ipr.link("set", index=ipr.link_lookup(ifname="v0")[0], master=ipr.link_lookup(ifname="br9")[0])
        ipr.link("add", ifname="mv0", kind="macvlan", link=ipr.link_lookup(ifname="v1")[0])

    with Namespace("decoder") as namespace:
        on_uvloop(namespace, main)
