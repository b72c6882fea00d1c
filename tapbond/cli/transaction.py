"""The course of ``tapbond migrate`` and ``reattach``: look, then do; or take up what an earlier run left."""

import asyncio
from pathlib import Path
from typing import Any

from tapbond.cli.hostside import Screen, interruptible, site_of


async def start(screen: Screen, wishes: Any, standby: str, *, dry_run: bool, state_dir: Path | None) -> bool:
    """Look and, unless it is a dry run, do it; return whether it was done.

    Raises:
        MigrationError: see there; nothing has changed, or the journal keeps what is left.
    """
    from tapbond.migration import MigrationError, Transaction, plan, survey  # noqa: PLC0415
    from tapbond.migration.journal import Journal  # noqa: PLC0415

    journal = Journal(wishes.domain, state_dir)
    journal.open()
    try:
        if journal.load() is not None:
            raise MigrationError(f"{wishes.domain}: an earlier run was not finished (--resume or --abort)")
        async with site_of(wishes, standby) as site:
            facts = await survey(site, wishes)
            if dry_run:
                screen.plan(plan(facts))
                return False
            interrupt = asyncio.Event()
            with interruptible(asyncio.get_running_loop(), interrupt):
                transaction = Transaction(
                    site, journal, tell=screen.tell, report=screen.report, interrupt=interrupt
                )
                await transaction.run(facts)
    finally:
        journal.close()
    return True


async def take_up(screen: Screen, domain: str, kind: str, *, abort: bool, state_dir: Path | None) -> str:
    """Resume or abort what an earlier run left; return how it ended.

    Raises:
        MigrationError: see there.
    """
    from tapbond.migration import MigrationError, Transaction  # noqa: PLC0415
    from tapbond.migration.journal import Journal  # noqa: PLC0415

    journal = Journal(domain, state_dir)
    journal.open()
    try:
        record = journal.load()
        if record is None:
            return f"{domain}: nothing to {'abort' if abort else 'resume'}"
        if record.facts.kind != kind:
            raise MigrationError(f"{domain}: that was a tapbond {record.facts.kind} (use it with the same option)")
        async with site_of(record.facts, record.facts.standby) as site:
            interrupt = asyncio.Event()
            with interruptible(asyncio.get_running_loop(), interrupt):
                transaction = Transaction(
                    site, journal, tell=screen.tell, report=screen.report, interrupt=interrupt
                )
                await (transaction.abort(record) if abort else transaction.resume(record))
    finally:
        journal.close()
    return f"{domain}: {'as it was' if abort else 'finished'}"
