"""What is set on the failover reaches its slaves, all or none: over a fake network."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from world import MAC, OTHER, World

from tapbond.errors import LinkRequestError, NoSuchInterfaceError
from tapbond.model import Link, MacPolicyName, Role
from tapbond.settings import Backup, Settings
from tapbond.testing import VirtualClock, run

Scene = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., World]:
    def play(scene: Scene, policy: MacPolicyName = MacPolicyName.SAME) -> World:
        settings = Settings(
            name="tb0", standby="eth0", primary="eth1", backups=(Backup(link="eth2"),), mac_policy=policy
        )
        world = World(tmp_path, clock := VirtualClock(), settings)

        async def main() -> None:
            for name, role in (("eth0", Role.STANDBY), ("eth1", Role.PRIMARY), ("eth2", Role.BACKUP)):
                link = world.network.add(name, MAC, max_mtu=9212, min_mtu=68)
                await world.members.register(link.ifindex, role)
            world.selector.start()
            world.network.links.listen(world)
            world.network.rtnetlink.requests.clear()
            await scene(world)
            await asyncio.sleep(1)
            await world.propagation.close()
            world.selector.close()

        run(main(), clock)
        return world

    return play


def refused(name: str, code: int = errno.EINVAL) -> LinkRequestError:
    return LinkRequestError(f"{name}: cannot", code, "Invalid argument")


def test_an_mtu_goes_to_the_primary_first_then_the_standby_then_the_backups(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("tb0", mtu=9000)

    world = play(scene)
    assert world.all("mtu") == [9000] * 4
    assert world.asked("set_mtu") == ["eth1", "eth0", "eth2"]
    assert world.members.mtu == 9000


@pytest.mark.parametrize("successes", [0, 1, 2])
def test_an_mtu_that_one_refuses_is_taken_back_in_reverse(play: Callable[..., World], successes: int) -> None:
    order = ["eth1", "eth0", "eth2"]

    async def scene(world: World) -> None:
        answers: list[Any] = [None] * successes + [refused(order[successes])]
        original = world.network.rtnetlink.set_mtu

        async def set_mtu(link: Link, mtu: int) -> None:
            if answers and (answer := answers.pop(0)) is not None:
                raise answer
            await original(link, mtu)

        world.network.rtnetlink.set_mtu = set_mtu  # type: ignore[method-assign]
        world.network.change("tb0", mtu=4000)

    world = play(scene)
    assert world.all("mtu") == [1500] * 4
    assert world.members.mtu == 1500
    done = order[:successes]
    assert world.asked("set_mtu") == [*done, *reversed(done)]
    (event,) = world.refusals()
    assert (event.change, event.reason) == ("MTU 4000", f"{order[successes]}: cannot: Invalid argument")


def test_an_mtu_out_of_a_slaves_limits_is_not_even_tried(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("tb0", mtu=9400)

    world = play(scene)
    assert world.asked("set_mtu") == []
    assert world.all("mtu") == [1500] * 4
    assert world.refusals()[0].reason == "eth1 takes 9212 bytes at most"


@pytest.mark.parametrize("failure", [NoSuchInterfaceError("eth1"), refused("eth1")])
def test_one_that_does_not_go_back_does_not_keep_the_others(
    play: Callable[..., World], failure: Exception
) -> None:
    async def scene(world: World) -> None:
        answers: list[Any] = [None, None, refused("eth2"), None, failure]
        original = world.network.rtnetlink.set_mtu

        async def set_mtu(link: Link, mtu: int) -> None:
            if (answer := answers.pop(0) if answers else None) is not None:
                raise answer
            await original(link, mtu)

        world.network.rtnetlink.set_mtu = set_mtu  # type: ignore[method-assign]
        world.network.change("tb0", mtu=4000)

    world = play(scene)
    assert world.all("mtu") == [1500, 4000, 1500, 1500]
    assert world.refusals()[0].reason == "eth2: cannot: Invalid argument"


def test_a_slave_that_goes_meanwhile_is_no_reason_to_refuse(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.rtnetlink.failures["set_mtu"] = [NoSuchInterfaceError("eth1")]
        world.network.change("tb0", mtu=4000)

    world = play(scene)
    assert [world.network.device(name).mtu for name in ("tb0", "eth0", "eth2")] == [4000] * 3
    assert world.refusals() == []


def test_the_newest_of_many_changes_wins(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        for mtu in (2000, 3000, 1400):
            world.network.change("tb0", mtu=mtu)
            await asyncio.sleep(0)

    assert play(scene).all("mtu") == [1400] * 4


def test_down_closes_all_and_up_opens_all_that_open(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("tb0", up=False)
        await asyncio.sleep(1)
        assert world.all("up") == [False] * 4
        world.network.rtnetlink.failures["set_up"] = [refused("eth1", errno.EBUSY)]
        world.network.change("tb0", up=True)

    world = play(scene)
    assert world.all("up") == [True, False, True, True]
    assert [event.change for event in world.refusals()] == ["up"]


def test_a_failover_that_is_deleted_closes_nobody(play: Callable[..., World]) -> None:
    """unregister_netdevice() closes the link first, and tells so."""

    async def scene(world: World) -> None:
        world.network.change("tb0", up=False)
        world.network.delete("tb0")

    assert play(scene).asked("set_up") == []


def test_a_failover_that_is_up_again_by_now_closes_nobody(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("tb0", up=False)
        await asyncio.sleep(0)
        world.network.change("tb0", up=True)

    assert play(scene).all("up") == [True] * 4


def test_same_puts_the_mac_back(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("tb0", mac=OTHER)

    world = play(scene)
    assert world.all("mac") == [MAC] * 4
    assert world.refusals()[0].change == f"MAC {OTHER}"
    assert world.macs == []


def test_set_passes_the_mac_on_and_writes_it_down_first(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("tb0", mac=OTHER)

    world = play(scene, MacPolicyName.SET)
    assert world.all("mac") == [OTHER] * 4
    assert world.macs == [OTHER]
    for original in world.journal.left_behind():
        assert (original.mac, original.given_macs) == (MAC, (OTHER,))
        assert original.describes(Link(ifindex=original.ifindex, name="x", mac=OTHER))
        assert original.describes(Link(ifindex=original.ifindex, name="x", mac=MAC))


def test_a_mac_that_one_refuses_is_taken_back_everywhere(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        original = world.network.rtnetlink.set_mac

        async def set_mac(link: Link, mac: str) -> None:
            if link.name == "eth2" and mac == OTHER:
                raise refused("eth2", errno.EPERM)
            await original(link, mac)

        world.network.rtnetlink.set_mac = set_mac  # type: ignore[method-assign]
        world.network.change("tb0", mac=OTHER)

    world = play(scene, MacPolicyName.SET)
    assert world.all("mac") == [MAC] * 4
    assert "eth2: does not take the MAC" in world.refusals()[0].reason


def test_a_driver_that_wants_its_link_closed_for_a_new_mac(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.rtnetlink.failures["set_mac"] = [refused("eth1", errno.EBUSY)]
        world.network.change("tb0", mac=OTHER)

    world = play(scene, MacPolicyName.SET)
    assert world.all("mac") == [OTHER] * 4
    assert world.all("up") == [True] * 4
    assert world.asked("set_up") == ["eth1", "eth1"]


def test_a_slave_whose_mac_somebody_changes_gets_it_again(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.network.change("eth1", mac=OTHER)
        await world.propagation.give(world.members.slave("eth1"))

    assert play(scene, MacPolicyName.SET).all("mac") == [MAC] * 4
