"""All of a plan or nothing of it: steps are done and verified, or undone in reverse.

Up to the final step (the move of the guest) a failure or an interruption undoes everything; after it there is
only the way forward, and a failure keeps the rest for --resume. Before each step, and after, the journal is on
the disk, so that another process can go on from there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum

import msgspec

from tapbond.errors import TapbondError
from tapbond.migration.errors import (
    MigrationError,
    NoWayBackError,
    UnclearError,
    UndoneError,
    UnfinishedError,
)
from tapbond.migration.facts import Facts, Progress
from tapbond.migration.journal import Journal, Record, State
from tapbond.migration.plan import plan
from tapbond.migration.step import Site, Step


class What(StrEnum):
    """That happened."""

    DOING = "doing"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"
    STUCK = "stuck"
    """A step could not be undone."""
    FORWARD = "forward"
    """It is too late to go back: it is finished."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What is told while it runs."""

    what: What
    step: str
    """Its key."""
    text: str


Tell = Callable[[Said], None]


class Transaction:
    """One run over a plan.

    Args:
        site: open.
        journal: open.
        tell: takes what happens.
        report: takes the progress of the move.
        interrupt: set by whoever wants it undone.
    """

    def __init__(
        self,
        site: Site,
        journal: Journal,
        *,
        tell: Tell = lambda _said: None,
        report: Callable[[Progress], None] = lambda _progress: None,
        interrupt: asyncio.Event | None = None,
    ) -> None:
        self._site = site
        self._journal = journal
        self._tell = tell
        self._report = report
        self._interrupt = interrupt or asyncio.Event()

    async def run(self, facts: Facts) -> None:
        """Do it.

        Raises:
            UndoneError: it failed or was interrupted; everything is as it was.
            UnfinishedError: it failed and not all could be undone, or it failed after the move.
        """
        record = Record(facts=facts)
        self._journal.save(record)
        await self._forward(record, plan(facts))

    async def resume(self, record: Record) -> None:
        """Go on where an earlier run ended; raises what run() does.

        Raises:
            MigrationError: it was being undone.
        """
        if record.backward:
            raise MigrationError(f"{record.facts.domain}: it was being undone already (--abort finishes that)")
        await self._forward(record, plan(record.facts))

    async def abort(self, record: Record) -> None:
        """Undo what an earlier run did.

        Raises:
            NoWayBackError: the guest has moved.
            UnfinishedError: not all could be undone.
        """
        steps = plan(record.facts)
        if _past_final(record, steps):
            raise NoWayBackError(
                f"{record.facts.domain}: runs on the destination, nothing can be undone (--resume finishes)"
            )
        try:
            await self._back(record, steps)
        except NoWayBackError:
            final = next(step for step in steps if step.final)
            self._mark(record, final, State.DONE)
            record.backward = False
            self._journal.save(record)
            raise

    async def _forward(self, record: Record, steps: Sequence[Step]) -> None:
        for step in steps:
            if record.states.get(step.key) is State.DONE:
                continue
            if _past_final(record, steps):
                await self._finish(record, steps)
                return
            try:
                await self._take(record, step)
            except (TapbondError, _InterruptedError) as error:
                self._say(What.FAILED, step, str(error))
                await self._turn_back(record, steps, error)
                return
        self._journal.forget()

    async def _take(self, record: Record, step: Step) -> None:
        self._mark(record, step, State.BEGUN)
        self._say(What.DOING, step, step.text)
        await self._unless_interrupted(self._do(step))
        self._mark(record, step, State.DONE)
        self._say(What.DONE, step, step.text)

    async def _do(self, step: Step) -> None:
        await step.do(self._site, self._report)
        await step.verify(self._site)

    async def _unless_interrupted(self, work: Coroutine[None, None, None]) -> None:
        doing = asyncio.ensure_future(work)
        interrupted = asyncio.ensure_future(self._interrupt.wait())
        try:
            await asyncio.wait((doing, interrupted), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise _InterruptedError
            doing.result()
        finally:
            for task in (doing, interrupted):
                task.cancel()
            await asyncio.gather(doing, interrupted, return_exceptions=True)

    async def _turn_back(self, record: Record, steps: Sequence[Step], error: Exception) -> None:
        try:
            await self._back(record, steps)
        except NoWayBackError as too_late:
            final = next(step for step in steps if step.final)
            self._say(What.FORWARD, final, str(too_late))
            record.backward = False
            self._mark(record, final, State.DONE)
            await self._finish(record, steps)
            return
        raise UndoneError(f"{error}: everything was undone, nothing has changed") from error

    async def _back(self, record: Record, steps: Sequence[Step]) -> None:
        """Undo in reverse what was begun. A final step that cannot be undone keeps all before it as it is."""
        record.backward = True
        self._note(record)
        stuck = []
        for step in reversed(steps):
            if record.states.get(step.key) not in (State.BEGUN, State.DONE):
                continue
            self._say(What.UNDOING, step, step.undo_text)
            try:
                await step.undo(self._site)
            except NoWayBackError:
                raise
            except TapbondError as error:
                self._say(What.STUCK, step, str(error))
                stuck.append(f"{step.undo_text}: {error}")
                if step.final or isinstance(error, UnclearError):
                    break
                continue
            record.states[step.key] = State.UNDONE
            self._note(record)
            self._say(What.UNDONE, step, step.undo_text)
        if stuck:
            raise UnfinishedError(f"not all could be undone (--abort tries again): {'; '.join(stuck)}")
        self._journal.forget()

    async def _finish(self, record: Record, steps: Sequence[Step]) -> None:
        """Do what is left after the move, whatever becomes of the others; it is not interrupted any more."""
        stuck = []
        for step in steps:
            if record.states.get(step.key) is State.DONE:
                continue
            try:
                self._mark(record, step, State.BEGUN)
                self._say(What.DOING, step, step.text)
                await self._do(step)
            except TapbondError as error:
                self._say(What.FAILED, step, str(error))
                stuck.append(f"{step.text}: {error}")
                continue
            self._mark(record, step, State.DONE)
            self._say(What.DONE, step, step.text)
        if stuck:
            raise UnfinishedError(
                f"{record.facts.domain} runs on the destination, but something is left here (--resume tries"
                f" again): {'; '.join(stuck)}"
            )
        self._journal.forget()

    def _note(self, record: Record) -> None:
        """Put it on the disk if that works: undoing does not wait for a full disk, and may be done twice."""
        with contextlib.suppress(MigrationError):
            self._journal.save(record)

    def _mark(self, record: Record, step: Step, state: State) -> None:
        record.states[step.key] = state
        self._journal.save(record)

    def _say(self, what: What, step: Step, text: str) -> None:
        self._tell(Said(what=what, step=step.key, text=text))


class _InterruptedError(Exception):
    """Somebody wants it undone."""

    def __str__(self) -> str:
        return "interrupted"


def _past_final(record: Record, steps: Sequence[Step]) -> bool:
    return any(step.final and record.states.get(step.key) is State.DONE for step in steps)
