"""The failover takes the MAC of who sends, and says so after it has it: over a fake network."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from world import MAC, OTHER, World

from tapbond.errors import LinkRequestError
from tapbond.following import AGAIN_S, Following
from tapbond.model import Link, MacPolicyName, Role
from tapbond.settings import Settings
from tapbond.testing import VirtualClock, run


class Told:
    """What an announcer was told, in that order: the port that sends, or the MAC it announces from now on."""

    def __init__(self) -> None:
        self.of: list[int | str | None] = []

    def switched(self, port: int | None) -> None:
        self.of.append(port)

    def begin(self, port: int) -> None:
        self.of.append(port)

    def introduce(self, _ifindex: int, mac: str) -> None:
        self.of.append(mac)


class Tap:
    """The TAP: each change of its MAC takes a moment; the next of `failures` is raised instead."""

    def __init__(self) -> None:
        self.link = Link(ifindex=9, name="tb0", mac=MAC)
        self.macs: list[str] = []
        self.failures: list[Exception] = []

    async def set_mac(self, mac: str) -> None:
        await asyncio.sleep(0.01)
        if self.failures:
            raise self.failures.pop(0)
        self.macs.append(mac)


class Scene:
    """A failover on eth0 (MAC) and eth1 (OTHER), whose TAP follows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told = Told()
        self.tap = Tap()
        self.ports: dict[str, int] = {}
        self.following = Following(world.registry, self.tap, cast("Any", self.told))

    def follow(self, name: str | None) -> None:
        self.following.follow(None if name is None else self.world.members.slave(name))


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Scene], Awaitable[None]]], Scene]:
    def play(act: Callable[[Scene], Awaitable[None]]) -> Scene:
        settings = Settings(name="tb0", standby="eth0", primary="eth1", mac_policy=MacPolicyName.FOLLOW)
        world = World(tmp_path, clock := VirtualClock(), settings)
        scene = Scene(world)

        async def main() -> None:
            for name, mac, role in (("eth0", MAC, Role.STANDBY), ("eth1", OTHER, Role.PRIMARY)):
                await world.members.register(world.network.add(name, mac).ifindex, role)
                scene.ports[name] = world.members.slave(name).port
            await act(scene)
            await scene.following.close()
            await world.close()

        run(main(), clock)
        return scene

    return play


def test_the_mac_first_the_announcement_after(play: Callable[..., Scene]) -> None:
    async def act(scene: Scene) -> None:
        scene.follow("eth1")
        assert scene.told.of == [None], "nothing is announced with the former MAC"
        await asyncio.sleep(1)

    scene = play(act)
    assert scene.tap.macs == [OTHER]
    assert scene.world.registry.mac == OTHER
    assert scene.told.of == [None, OTHER, scene.ports["eth1"]]


def test_who_sends_last_is_followed_last(play: Callable[..., Scene]) -> None:
    async def act(scene: Scene) -> None:
        scene.follow("eth1")
        scene.follow("eth0")
        await asyncio.sleep(1)

    scene = play(act)
    assert scene.world.registry.mac == MAC
    assert scene.told.of[-2:] == [MAC, scene.ports["eth0"]]


@pytest.mark.parametrize("after_s", [0.0, 0.005])
def test_one_more_switch_while_the_mac_is_set(play: Callable[..., Scene], after_s: float) -> None:
    async def act(scene: Scene) -> None:
        scene.follow("eth1")
        await asyncio.sleep(after_s)
        scene.follow("eth0")
        await asyncio.sleep(1)

    scene = play(act)
    assert ([MAC, *scene.tap.macs])[-1] == scene.world.registry.mac == MAC
    assert scene.ports["eth1"] not in scene.told.of, "it never sent with that MAC"


def test_nobody_to_follow_leaves_the_mac(play: Callable[..., Scene]) -> None:
    async def act(scene: Scene) -> None:
        scene.follow(None)
        await asyncio.sleep(1)

    assert play(act).told.of == [None]


def test_a_mac_that_is_refused_is_announced_as_it_was_and_tried_again(play: Callable[..., Scene]) -> None:
    async def act(scene: Scene) -> None:
        scene.tap.failures = [LinkRequestError("tb0: cannot", errno.EBUSY, "Device or resource busy")]
        scene.follow("eth1")
        await asyncio.sleep(AGAIN_S / 2)
        assert scene.world.registry.mac == MAC
        assert scene.told.of == [None, MAC, scene.ports["eth1"]], "traffic flows meanwhile, with that MAC"
        await asyncio.sleep(AGAIN_S)

    scene = play(act)
    assert scene.world.registry.mac == OTHER
    assert scene.told.of[-2:] == [OTHER, scene.ports["eth1"]]
