"""Who belongs to a failover: links come, are registered or refused, go, and come back."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager

import structlog

from tapbond.delays import LinkDelays
from tapbond.errors import NoSuchInterfaceError, NoSuchSlaveError, RefusedError, TapbondError
from tapbond.links import Links
from tapbond.model import Detector, Event, Link, Role, SlaveRefused, SlaveRegistered, SlaveReleased
from tapbond.policy import RANK
from tapbond.registrar import Registrar
from tapbond.registry import Registry
from tapbond.rundir import Lock, RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.slave import UNPLUGGED, Slave

log = structlog.get_logger()

CLOSE_DEADLINE_S = 5.0
"""For registrations under way when the failover is destroyed; each takes milliseconds."""


class Membership:
    """Registers and releases slaves, one at a time, while the selector goes on deciding.

    Args:
        registry: the slots.
        registrar: does the work on the links.
        selector: is told of every slave.
        links: all links where slaves are found.
        run_dir: where links are locked.
        settings: the failover's.
        isolation: name of the isolation in use, for the events.
        emit: takes the events.
        clock: CLOCK_MONOTONIC in ns.
        slave_links: all links where slaves live; None: they stay where they are found.
    """

    def __init__(
        self,
        registry: Registry,
        registrar: Registrar,
        selector: Selector,
        links: Links,
        run_dir: RunDir,
        *,
        settings: Settings,
        isolation: str,
        emit: Callable[[Event], None],
        clock: Callable[[], int],
        slave_links: Links | None = None,
    ) -> None:
        self.mtu = 1500
        """The failover's, in bytes: what a new slave gets."""
        self.up = False
        """Whether the failover is administratively up: a new slave is opened then."""
        self.one_at_a_time = asyncio.Lock()
        """Held while links are changed."""
        self._registry = registry
        self._registrar = registrar
        self._selector = selector
        self._links = links
        self._slave_links = slave_links or links
        self._run_dir = run_dir
        self._settings = settings
        self._isolation = isolation
        self._emit = emit
        self._clock = clock
        self._under_way: set[int] = set()
        self._refused: dict[int, tuple[str, str, int, bool]] = {}
        self._removed: set[int] = set()
        self._coming_home: set[str] = set()
        """Names of links that are brought back from where slaves live, and are not to be taken again."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._primary_known = False
        self._closing = False

    def change(self, settings: Settings) -> None:
        """Go by other settings, the slaves that there are included."""
        self._settings = settings
        for slave in self._selector.slaves:
            slave.delays.change(settings.updelay_ns, settings.downdelay_ns, settings.hold_down_ns)

    def slave(self, name: str) -> Slave:
        """Return the slave of this name.

        Raises:
            NoSuchSlaveError: there is none.
        """
        for slave in self._selector.slaves:
            if slave.name == name:
                return slave
        names = ", ".join(slave.name for slave in self._selector.slaves) or "none"
        raise NoSuchSlaveError(f"{name}: not a slave of {self._registry.failover} (its slaves: {names})")

    def slave_of(self, link: Link) -> Slave | None:
        """Return the slave on this link, if it is one."""
        return next((slave for slave in self._selector.slaves if slave.link.key == link.key), None)

    def concerns(self, ifindex: int) -> bool:
        """Return whether a link is a slave, or about to become one."""
        return ifindex in self._under_way or any(slave.link.ifindex == ifindex for slave in self._selector.slaves)

    def consider(self, link: Link) -> None:
        """Register a link in the background if it is meant for us; a refusal is logged once."""
        if self._closing or link.netns != self._links.netns or link.name in self._coming_home:
            return
        if link.ifindex in self._under_way | self._removed:
            return
        if self._registry.wanted_role(link) is None:
            return
        if self._refused.get(link.ifindex) == _identity(link):
            return
        self._under_way.add(link.ifindex)
        self.spawn(self._register_found(link.ifindex))

    def gone(self, link: Link, when_ns: int) -> None:
        """Let go of a link that was unplugged; at once for the choice, in the background for the rest."""
        if link.netns == self._links.netns:
            self._refused.pop(link.ifindex, None)
            self._removed.discard(link.ifindex)
        slave = self.slave_of(link)
        if slave is None:
            return
        slave.vanish()
        self._registry.free(link)
        self._selector.remove(slave, Detector.NETLINK, when_ns, UNPLUGGED)
        self.spawn(self._release(slave, UNPLUGGED))

    def expect(self, ifindexes: Iterable[int]) -> None:
        """Do not consider these links: each of them will be given to register()."""
        self._under_way.update(ifindexes)

    async def register(self, ifindex: int, role: Role, prio: int | None = None) -> None:
        """Register a link that is there; ``prio`` None: the one it was named with, else 0.

        Raises:
            RefusedError, BusyError: it cannot be a slave; it was left as it was.
            NoSuchInterfaceError: it has gone.
        """
        self._under_way.add(ifindex)
        try:
            async with self.one_at_a_time:
                link = self._links.by_index.get(ifindex)
                if link is None:
                    raise NoSuchInterfaceError(f"interface {ifindex}")
                if self._closing:
                    raise RefusedError(link.name, f"{self._registry.failover} is being destroyed")
                self._registry.check(link, role, self._links.by_index)
                await self._enslave(link, role, prio)
        finally:
            self._under_way.discard(ifindex)

    async def remove(self, slave: Slave, reason: str) -> None:
        """Give a slave back as it was found; it is not registered again on its own."""
        if slave.link.netns == self._links.netns:
            self._removed.add(slave.link.ifindex)
        async with self.one_at_a_time:
            if slave not in self._selector.slaves:
                return
            self._registry.free(slave.link)
            self._selector.remove(slave, Detector.CONTROL, self._clock(), reason)
            # A task of its own: who asked for it may go away, the link is given back all the same.
            releasing = self.spawn(self._drain_and_release(slave, reason))
        await asyncio.shield(releasing)

    def welcome(self, ifindex: int) -> None:
        """Consider a link again that was removed by hand."""
        self._removed.discard(ifindex)

    async def close(self) -> None:
        """Give everything back: the primary first, as net_failover_destroy() does."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_DEADLINE_S)
        async with self.one_at_a_time:  # one that is being registered by hand is no task of ours
            slaves = self._selector.retire()
        for slave in sorted(slaves, key=lambda slave: (RANK[slave.role], slave.port)):
            await self._release(slave, "failover destroyed")

    async def _register_found(self, ifindex: int) -> None:
        link = self._links.by_index.get(ifindex)
        try:
            if link is not None and (role := self._registry.wanted_role(link)) is not None:
                await self.register(ifindex, role)
        except RefusedError as error:
            self._refuse(self._links.by_index.get(ifindex, link), error.reason)
        except NoSuchInterfaceError:
            log.debug("link has gone again", ifindex=ifindex)
        except TapbondError as error:
            self._refuse(link, str(error))
        finally:
            self._under_way.discard(ifindex)

    async def _enslave(self, link: Link, role: Role, prio: int | None) -> None:
        lock = self._run_dir.lock_link(link.ifindex, link.name, self._registry.failover)
        slave = self._new_slave(link, role, lock, prio)
        with self._on_its_way(slave):
            await self._registrar.register(
                slave, self._registry.mac, self.mtu, self.up, self._links.addresses(link.ifindex)
            )
        current = self._slave_links.by_index.get(slave.link.ifindex)
        if slave.link.netns != link.netns:
            slave.unlock()  # nobody else sees it there, and here its ifindex means nothing any more
        if current is None:
            await self._registrar.release(slave)
            return
        self._registry.take(role, current)
        self._primary_known |= role is Role.PRIMARY
        self._refused.pop(link.ifindex, None)
        self._selector.add(slave, current, self._clock())
        log.info("failover slave registered", role=role, slave=slave.name, failover=self._registry.failover)
        self._emit(
            SlaveRegistered(
                failover=self._registry.failover,
                slave=slave.name,
                role=role,
                ifindex=current.ifindex,
                isolation=self._isolation,
            )
        )

    def _new_slave(self, link: Link, role: Role, lock: Lock, prio: int | None) -> Slave:
        settings = self._settings
        return Slave(
            link,
            role,
            lock,
            LinkDelays(settings.updelay_ns, settings.downdelay_ns, settings.hold_down_ns),
            prio=self._registry.backups.get(link.name, 0) if prio is None else prio,
            sticky=link.name in settings.sticky,
            forced=role is Role.PRIMARY and not self._primary_known,
        )

    async def _drain_and_release(self, slave: Slave, reason: str) -> None:
        async with self.one_at_a_time:
            await asyncio.sleep(self._settings.drain_ns / 1e9)
        await self._release(slave, reason)
        if slave.link.netns == self._links.netns:  # known only now if it lived elsewhere
            self._removed.add(slave.link.ifindex)

    async def _release(self, slave: Slave, reason: str) -> None:
        async with self.one_at_a_time:
            with self._on_its_way(slave):
                await self._registrar.release(slave)
        log.info(
            "failover slave unregistered",
            role=slave.role,
            slave=slave.name,
            failover=self._registry.failover,
            reason=reason,
        )
        self._emit(
            SlaveReleased(failover=self._registry.failover, slave=slave.name, role=slave.role, reason=reason)
        )

    @contextmanager
    def _on_its_way(self, slave: Slave) -> Iterator[None]:
        """Do not take a link for a new one that comes home, or that is sent home because it was refused."""
        if slave.gone or self._slave_links is self._links:
            yield
            return
        name = slave.name
        self._coming_home.add(name)
        try:
            yield
        finally:
            self._links.read_pending()
            self._coming_home.discard(name)

    def _refuse(self, link: Link | None, reason: str) -> None:
        if link is None or self._closing:
            return
        self._refused[link.ifindex] = _identity(link)
        log.warning("link refused", failover=self._registry.failover, link=link.name, reason=reason)
        self._emit(SlaveRefused(failover=self._registry.failover, link=link.name, reason=reason))

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do something in the background; close() waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("registration failed", failover=self._registry.failover, exc_info=error)


def _identity(link: Link) -> tuple[str, str, int, bool]:
    """Return what a refusal depends on: a change of it is worth another try."""
    return (link.name, link.mac, link.master, link.ethernet)
