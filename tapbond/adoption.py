"""``--adopt``: the failover takes over a live interface, and gives it back.

The order at the start, with what a connection through the standby sees:

1. everything is written down;
2. the TAP (same MAC, up) gets the addresses too: both links have them, and the standby's routes come first;
3. the standby becomes a slave: from here on its frames arrive by the TAP, and it still sends by its own routes,
   as a port of a bridge may;
4. the TAP has its carrier: before that its queue drops everything (dev_activate() in net/sched/sch_generic.c);
5. neighbours and routes move, each route replaced in place;
6. the addresses leave the standby: they stay this host's own, so no route and no socket loses its source.

At the end the same backwards: the standby gets the addresses, neighbours and routes that the TAP has *then*, is
released, and only after that they leave the TAP.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import structlog

from tapbond.addresses import is_link_local
from tapbond.adopted import Adopted, AdoptionFile, Stage, as_it_was
from tapbond.carrier import carrier_on
from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.holdings import Holdings
from tapbond.links import Links
from tapbond.model import Link
from tapbond.moves import (
    Step,
    add_addresses,
    add_neighbours,
    move_routes,
    remove_addresses,
    remove_neighbours,
    remove_routes,
    unwanted_routes,
)
from tapbond.rtmessage import Message

log = structlog.get_logger()

KEEP_S = 10.0
"""How often is written down what the TAP has now: a lease may have been renewed there."""
KEEP_SHARE = 100
"""Reading takes at most one part in so many of the time: a router may have a million routes."""
CARRIER_DEADLINE_S = 1.0
"""For the TAP's carrier, which comes within milliseconds where the standby has one."""


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME in ns: lifetimes go on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Batch(Protocol):
    """What tapbond.rtbatch.RtBatch does."""

    async def dump(self) -> list[Message]:
        """Return all addresses, routes and neighbours."""

    async def perform(self, steps: Sequence[Step]) -> None:
        """Do all steps; raise why the first of those that failed did."""


class Adoption:
    """Moves what a link holds to the TAP, and back.

    Args:
        batch: to read and change it.
        links: all links.
        file: where it is written down.
        clock: CLOCK_BOOTTIME in ns.
        off_loop: calls what takes its time where it keeps nobody waiting.
    """

    def __init__(
        self,
        batch: Batch,
        links: Links,
        file: AdoptionFile,
        clock: Callable[[], int] = boottime_ns,
        off_loop: Callable[[Callable[[], Adopted]], Awaitable[Adopted]] = asyncio.to_thread,
    ) -> None:
        self._batch = batch
        self._links = links
        self._file = file
        self._clock = clock
        self._off_loop = off_loop
        self._adopted: Adopted | None = None
        self._latest: Adopted | None = None
        self._on_tap = Holdings()
        self._failed = False
        self._watched = False
        """This process has seen the standby since it was written down: its ifindex tells which it is."""
        self._keeping: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[Adopted] | None = None

    async def hold(self, standby: Link, tap: Link) -> bool:
        """Write everything down, and give the TAP the standby's addresses too.

        Returns:
            Whether there is anything to adopt.

        Raises:
            TapbondError: an address was refused, and finish() undoes it; or what was adopted before is still kept.
        """
        if (kept := self._file.read()) is not None and kept.stage is not Stage.HELD:
            way_out = f"put it back with tapbond restore, or drop it with tapbond restore --forget {kept.failover}"
            what = f"{kept.counted()} of {kept.name} are kept since an earlier run"
            raise TapbondError(f"{tap.name}: {what}: {way_out}")
        everything, now_ns = await self._batch.dump(), self._clock()
        held = Holdings.of(standby, everything, now_ns)
        if all(is_link_local(address) for address in held.addresses):
            log.warning("nothing to adopt: the standby has no address", standby=standby.name, failover=tap.name)
            return False
        self._adopted = Adopted(
            ifindex=standby.ifindex,
            name=standby.name,
            mac=standby.mac,
            failover=tap.name,
            tap=tap.ifindex,
            held=held,
            own=Holdings.of(tap, everything, now_ns),
        )
        self._watched = True
        self._file.write(self._adopted)
        await self._batch.perform(add_addresses(held.moved(standby, tap, now_ns), tap))
        return True

    async def move(self, tap: Link) -> None:
        """Move neighbours and routes, then take the addresses off the standby, which is a slave by now.

        Raises:
            TapbondError: something was refused; give_back() undoes it.
        """
        adopted = self._adopted
        if adopted is None:
            return
        if not await carrier_on(self._links, tap.ifindex, CARRIER_DEADLINE_S):
            log.debug("adopting without a carrier", failover=tap.name)
        self._write(Stage.MOVING)
        standby = self._standby(adopted) or adopted.standby
        everything, now_ns = await self._batch.dump(), self._clock()
        wanted = adopted.held.moved(standby, tap, now_ns)
        present = Holdings.of(tap, everything, now_ns)
        steps = add_neighbours(wanted, tap)
        steps += move_routes(adopted.held.routes, wanted.routes, everything, tap)
        steps += remove_routes(unwanted_routes(adopted.own, present, wanted), tap)
        await self._batch.perform(steps)
        leaving = [address for address in adopted.held.addresses if not is_link_local(address)]
        await self._batch.perform(
            [*remove_addresses(leaving, standby), *remove_neighbours(adopted.held.neighbours, standby)]
        )
        self._write(Stage.MOVED)
        self._keeping = asyncio.create_task(self._keep())
        log.info("adopted", standby=standby.name, failover=tap.name, what=adopted.counted())

    async def resume(self) -> str:
        """Give back what a process that was killed had adopted; return in words what it was, empty: nothing."""
        self._adopted = self._file.read()
        if (adopted := self._adopted) is None:
            return ""
        where = f"{adopted.name} of {adopted.failover}"
        if adopted.stage is not Stage.HELD and adopted.standby_now(self._links) is None:
            self._adopted = None
            way_out = f"or: tapbond restore --forget {adopted.failover}"
            return f"{where}: kept, no such interface with MAC {adopted.mac} ({way_out})"
        await self.give_back()
        await self.finish()
        return "" if adopted.stage is Stage.HELD else f"{where}: {adopted.counted()}"

    async def give_back(self, standby: Link | None = None) -> None:
        """Give the standby what the TAP has now; where the TAP has gone, what was written down.

        Args:
            standby: as it is now, if that is known. Where there is none, all stays on the TAP and written down.
        """
        if (adopted := self._adopted) is None or adopted.stage is Stage.HELD:
            return
        await self._keep_no_more()
        standby = standby or self._standby(adopted)
        if standby is None:
            await self._note(adopted, adopted.standby)
            self._adopted = None
            way_out = f"tapbond restore {adopted.failover}, when it is there again"
            log.warning("the standby has gone: nothing is given back", standby=adopted.name, way_out=way_out)
            return
        try:
            await self._give_back(adopted, standby)
        except TapbondError as error:
            self._not_given_back(error)

    async def finish(self) -> None:
        """Take off a TAP that stays what has been given back, and cross everything out."""
        if (adopted := self._adopted) is None:
            return
        self._adopted = None
        tap = adopted.tap_now(self._links)
        if tap is not None:
            mine = [address for address in self._on_tap.addresses if not is_link_local(address)]
            try:
                everything = Holdings.of(tap, await self._batch.dump(), self._clock()).without(adopted.own)
                mine = mine or [a for a in everything.addresses if not is_link_local(a)]
                steps = remove_routes(everything.routes, tap) + remove_neighbours(everything.neighbours, tap)
                await self._batch.perform(steps + remove_addresses(mine, tap))
            except NoSuchInterfaceError:
                log.debug("the TAP has gone", failover=adopted.failover)
            except TapbondError as error:
                self._not_given_back(error)
        if not self._failed:
            self._file.clear()

    async def _give_back(self, adopted: Adopted, standby: Link) -> None:
        everything, now_ns = await self._batch.dump(), self._clock()
        tap = adopted.tap_now(self._links)
        latest = self._latest or adopted
        wanted = latest.held.moved(latest.standby, standby, now_ns)
        if tap is not None:
            self._on_tap = Holdings.of(tap, everything, now_ns).without(adopted.own)
        if tap is not None and adopted.stage is Stage.MOVED:
            wanted = as_it_was(self._on_tap.moved(tap, standby, now_ns), adopted.held)
            self._file.write(adopted.now_held(wanted, standby, Stage.MOVING))
        before = Holdings.of(standby, everything, now_ns)
        await self._try(add_addresses(wanted, standby))
        everything = await self._batch.dump()
        steps = add_neighbours(wanted, standby)
        steps += move_routes(self._on_tap.routes, wanted.routes, everything, standby)
        steps += remove_routes(unwanted_routes(before, Holdings.of(standby, everything, now_ns), wanted), standby)
        await self._try(steps)
        log.info("given back", standby=standby.name, failover=adopted.failover)

    def _write(self, stage: Stage) -> None:
        """Write down how far it has come."""
        if self._adopted is not None:
            self._adopted = msgspec.structs.replace(self._adopted, stage=stage)
            self._file.write(self._adopted)

    async def _keep(self) -> None:
        """Write down what the TAP has, for as long as it has it: should it vanish, that is what is given back."""
        pause_s = KEEP_S
        while True:
            await asyncio.sleep(pause_s)
            began_ns = self._clock()
            if (adopted := self._adopted) is None:
                continue
            await self._note(adopted, self._standby(adopted) or adopted.standby)
            pause_s = max(KEEP_S, KEEP_SHARE * (self._clock() - began_ns) / 1e9)

    async def _note(self, adopted: Adopted, standby: Link) -> None:
        """Write down what the TAP has now."""
        if (tap := adopted.tap_now(self._links)) is None:
            return
        try:
            everything, now_ns = await self._batch.dump(), self._clock()
        except TapbondError as error:
            log.debug("not written down", error=str(error))
            return

        def write() -> Adopted:
            on_tap = Holdings.of(tap, everything, now_ns).without(adopted.own)
            held = as_it_was(on_tap.moved(tap, standby, now_ns), adopted.held)
            latest = adopted.now_held(held, standby, Stage.MOVED)
            self._file.write(latest)
            return latest

        self._writing = asyncio.ensure_future(self._off_loop(write))
        self._latest = await asyncio.shield(self._writing)

    def _standby(self, adopted: Adopted) -> Link | None:
        """Return the standby as it is now: while we watch, its ifindex is nobody else's, whatever its MAC."""
        watched = self._links.by_index.get(adopted.ifindex) if self._watched else None
        return watched or adopted.standby_now(self._links)

    async def _keep_no_more(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait((keeping,))
        if self._writing is not None:
            await asyncio.wait((self._writing,))  # a thread is not cancelled

    async def _try(self, steps: Sequence[Step]) -> None:
        """Do what is possible: the rest is said."""
        try:
            await self._batch.perform(steps)
        except TapbondError as error:
            self._not_given_back(error)

    def _not_given_back(self, error: TapbondError) -> None:
        self._failed = True
        log.warning("not everything was given back (again: tapbond restore)", error=str(error))
