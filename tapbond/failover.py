"""The failover's life: create … destroy (the kernel's drivers/net/net_failover.c, net_failover_create())."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from tapbond import __version__
from tapbond.adjustment import Adjustment
from tapbond.assembly import Assembly
from tapbond.events import EventStream
from tapbond.model import DataPathName, Event, Role, Switchover
from tapbond.settings import Settings
from tapbond.state import Rules, Status

log = structlog.get_logger()

STATUS_SWITCHOVERS = 16


class Failover:
    """A TAP interface that survives its primary.

    ``async with Failover("tb0", standby="eth0", primary="eth1") as failover:`` creates it and, at the end,
    gives everything back as it was found.

    Args:
        name: of the TAP.
        clock: CLOCK_MONOTONIC in ns.
        options: the fields of tapbond.settings.Settings, or all of them as ``settings``.

    Raises:
        TapbondError: options that contradict each other.
    """

    def __init__(self, name: str, *, clock: Callable[[], int] = time.monotonic_ns, **options: Any) -> None:
        self.settings: Settings = options.pop("settings", None) or Settings.of(name, options)
        self.name = self.settings.name
        self.ready = asyncio.Event()
        """Set when the failover has its carrier for the first time."""
        self.lost = asyncio.Event()
        """Set when the TAP has gone, so that only destroy() is left."""
        self.lost_because = ""
        self._parts = Assembly(
            self.settings,
            emit=self._emit,
            set_ready=self.ready.set,
            lost=self._tap_lost,
            changed=self._changed,
            clock=clock,
        )
        self._watchers: list[Callable[[], None]] = []
        self._clock = clock
        self._events = EventStream()
        self._unwind = AsyncExitStack()
        self._created_ns = 0

    async def __aenter__(self) -> Self:
        await self.create()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    async def create(self) -> None:
        """Make the TAP and register the slaves that are there.

        Raises:
            NoSuchInterfaceError: the standby does not exist.
            RefusedError: a named link cannot be a slave.
            TapbondError: anything else; nothing is changed then.
        """
        async with AsyncExitStack() as unwind:
            await self._parts.open_kernel(unwind)
            await self._parts.open_failover(unwind)
            self._unwind = unwind.pop_all()
        self._created_ns = self._clock()
        log.info(
            "failover created",
            failover=self.name,
            mac=self._parts.registry.mac,
            mtu=self._parts.whereabouts.link.mtu,
            isolation=self._parts.isolation.kind,
            datapath=self._parts.redirect.name if self._parts.redirect else DataPathName.COPY,
        )

    async def destroy(self) -> None:
        """Give everything back: slaves as they were found, no TAP unless it is persistent. Idempotent."""
        unwind, self._unwind = self._unwind, AsyncExitStack()
        await unwind.aclose()
        self._events.emit(None)

    def events(self) -> AsyncIterator[Event]:
        """Return what happens from now on; it ends with the failover."""
        return self._events.subscribe()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called at each change of who may send, at once; it must not wait, nor raise."""
        self._watchers.append(changed)

    def status(self) -> Status:
        """Return what ``tapbond status --json`` prints."""
        parts, now_ns = self._parts, self._clock()
        selector, tap, isolation = parts.selector, parts.whereabouts.link, parts.isolation.kind
        active, requested = selector.active, selector.requested
        return Status(
            name=self.name,
            interface=parts.master.interface,
            netns=parts.whereabouts.netns,
            ifindex=tap.ifindex,
            mac=tap.mac,
            mtu=tap.mtu,
            up=tap.up,
            carrier=selector.carrier,
            active=active.name if active else None,
            requested=requested.name if requested else None,
            rx=self.settings.rx,
            isolation=isolation,
            datapath=parts.redirect.name if parts.redirect else DataPathName.COPY,
            datapath_reason=parts.redirect.reason if parts.redirect else "",
            queues=parts.master.queues,
            slaves=tuple(
                slave.status(parts.pump, slave is active, isolation, now_ns) for slave in selector.slaves
            ),
            counters=parts.pump.total(),
            links=parts.surface.counters,
            switchovers=selector.switchovers.count,
            last_switchovers=tuple(selector.switchovers.records)[-STATUS_SWITCHOVERS:],
            pid=os.getpid(),
            uptime_s=round((now_ns - self._created_ns) / 1e9, 3),
            version=__version__,
            rules=Rules.of(self.settings),
        )

    async def refresh(self) -> None:
        """Read what the slaves' drivers count, so that status() tells it as of now, not of a second ago."""
        await self._parts.surface.refresh()

    def switchovers(self) -> tuple[Switchover, ...]:
        """Return the records of the last 256 switchovers, oldest first; an incomplete one is not among them."""
        return tuple(self._parts.selector.switchovers.records)

    def switch(self, slave: str | None) -> None:
        """Make a slave active by hand, for as long as it is ready; None: let the rules choose again.

        Raises:
            NoSuchSlaveError: it is not a slave, or not ready.
        """
        self._parts.selector.request(None if slave is None else self._parts.members.slave(slave))

    async def add(self, link: str, role: Role | str = Role.PRIMARY, prio: int | None = None) -> None:
        """Register a link by hand; ``prio`` is a backup's or a standby's, None: as configured, else 0.

        Raises:
            NoSuchInterfaceError, RefusedError, BusyError: it cannot be a slave; it was left as it was.
        """
        self._parts.places.slaves.links.read_pending()
        ifindex = self._parts.places.slaves.links.by_name(link).ifindex
        self._parts.members.welcome(ifindex)
        await self._parts.members.register(ifindex, Role(role), prio)

    def rank(self, slave: str, *, prio: int | None = None, sticky: bool | None = None) -> None:
        """Give a slave another ``prio``, or make it sticky or not; None: as it is.

        Raises:
            NoSuchSlaveError: it is not a slave.
        """
        self._parts.selector.rank(self._parts.members.slave(slave), prio=prio, sticky=sticky)

    async def remove(self, slave: str) -> None:
        """Give a slave back as it was found; it is not taken again on its own.

        Raises:
            NoSuchSlaveError: it is not a slave.
        """
        await self._parts.members.remove(self._parts.members.slave(slave), "removed")

    async def adjust(self, settings: Settings) -> list[str]:
        """Go on with other settings, without losing a frame.

        Args:
            settings: may differ from the present ones in what tapbond.adjustment.ADJUSTABLE names.

        Returns:
            Why links that are named now could not become slaves, a line each.

        Raises:
            TapbondError: something else is different, or cannot be done; nothing has changed then.
        """
        adjustment = Adjustment(self._parts, self.settings, settings)
        adjustment.check()
        self.settings = settings
        return await adjustment.make()

    def _tap_lost(self, reason: str) -> None:
        self.lost_because = reason
        self.lost.set()

    def _changed(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _emit(self, event: Event) -> None:
        if isinstance(event, Switchover):
            log.info("switchover", **msgspec.structs.asdict(event))
        self._events.emit(event)


async def create(name: str, **options: Any) -> Failover:
    """Create a failover, as net_failover_create() does; any number may live in one process.

    Args:
        name: of the TAP.
        options: the fields of tapbond.settings.Settings.

    Returns:
        It, running, until destroy().

    Raises:
        TapbondError: see Failover.create(); nothing is changed then, and no other failover disturbed.
    """
    failover = Failover(name, **options)
    await failover.create()
    return failover


async def destroy(failover: Failover | None) -> None:
    """End a failover and give everything back, as net_failover_destroy() does; None and again are harmless."""
    if failover is not None:
        await failover.destroy()
