"""``--mac-policy follow``: the failover takes the MAC of the slave that sends (bonding: fail_over_mac=active).

In a task of its own, which waits for nothing but the kernel: no slave is touched. The announcements follow
the MAC, never the other way round: a switch must not learn the former MAC on the new port.
"""

import asyncio
from typing import Protocol

import structlog

from tapbond.announcer import Announcer
from tapbond.errors import TapbondError
from tapbond.model import Link
from tapbond.registry import Registry
from tapbond.slave import Slave

log = structlog.get_logger()

AGAIN_S = 1.0
"""After so long a MAC that could not be set is tried again."""


class Tap(Protocol):
    """What is asked of the TAP (tapbond.whereabouts.Whereabouts)."""

    link: Link

    async def set_mac(self, mac: str) -> None:
        """Set its MAC; raises TapbondError."""


class Following:
    """Has the TAP follow, and announces it.

    Args:
        registry: holds the failover's MAC.
        tap: the TAP, wherever it is.
        announcer: tells the network.
    """

    def __init__(self, registry: Registry, tap: Tap, announcer: Announcer) -> None:
        self._registry = registry
        self._tap = tap
        self._announcer = announcer
        self._wanted: tuple[str, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, slave: Slave | None) -> None:
        """Follow this slave, which sends from now on, whoever was to be followed before; None: nobody sends."""
        self._announcer.switched(None)
        self._stop_timer()
        self._wanted = None if slave is None else (slave.link.mac, slave.port)
        if self._wanted is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._take_over())

    async def close(self) -> None:
        """Follow no more; what is under way takes milliseconds."""
        self._wanted = None
        self._stop_timer()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _take_over(self) -> None:
        while (wanted := self._wanted) is not None:
            self._wanted = None
            mac, port = wanted
            failed = mac != self._registry.mac and not await self._set(mac)
            if self._wanted is None:
                self._announcer.introduce(self._tap.link.ifindex, self._registry.mac)
                self._announcer.begin(port)
                if failed:
                    self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self._again, wanted)

    async def _set(self, mac: str) -> bool:
        """Set the MAC. It is the failover's before the kernel says so: the news of it is no change by hand."""
        former, self._registry.mac = self._registry.mac, mac
        try:
            await self._tap.set_mac(mac)
        except TapbondError as error:
            self._registry.mac = former
            log.warning(
                "cannot follow the active slave", failover=self._registry.failover, mac=mac, error=str(error)
            )
            return False
        log.info("MAC changed", failover=self._registry.failover, mac=mac)
        return True

    def _again(self, wanted: tuple[str, int]) -> None:
        self._timer = None
        self._wanted = wanted
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._take_over())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
