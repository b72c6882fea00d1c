"""The course of ``tapbond migrate`` and ``reattach``: look, then do; or take up what an earlier run left."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tapbond.cli.screen import Screen
from tapbond.errors import TapbondError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible(loop: asyncio.AbstractEventLoop, interrupt: asyncio.Event) -> Iterator[None]:
    """Let a signal ask for the undoing; further ones change nothing, for undoing is not to be interrupted."""
    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in wanted:
        loop.add_signal_handler(number, interrupt.set)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


def execute(work: Callable[[Screen], Awaitable[None]], as_json: bool) -> None:
    """Run on uvloop; an error is the last line of JSON too."""
    from tapbond.service.daemon import run  # noqa: PLC0415

    screen = Screen(as_json)

    async def main() -> None:
        await work(screen)

    try:
        run(main())
    except TapbondError as error:
        if as_json:
            screen.say(str(error), error=type(error).__name__)
        raise
    finally:
        screen.close()


def say(work: Callable[[], Awaitable[str]], told: Mapping[str, Any]) -> None:
    """Run what has one thing to say."""

    async def said(screen: Screen) -> None:
        screen.say(await work())

    execute(said, told["as_json"])


def wished(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what both commands take, as Wishes has it."""
    device: Path | None = told["device"]
    same = ("connect", "netns", "tap", "uplink", "pf", "vf", "link_at_rest")
    return {
        **{name: told[name] for name in same},
        "device": device.read_text() if device else "",
        "unplug_timeout_s": told["unplug_timeout"],
    }


def course(wishes: Any, outcome: str, told: Mapping[str, Any]) -> None:
    """Do what is wished, or take up what an earlier run of the same command left.

    Args:
        wishes: of the domain, and the rest.
        outcome: what is so once it is done.
        told: the options of both commands.
    """
    name, kind, state_dir = wishes.domain, wishes.kind, told["state_dir"]

    async def work(screen: Screen) -> None:
        if told["resume"] or told["abort"]:
            screen.say(await take_up(screen, name, kind, abort=told["abort"], state_dir=state_dir))
        elif await start(screen, wishes, told["standby"], dry_run=told["dry_run"], state_dir=state_dir):
            screen.say(f"{name}: {outcome}")

    execute(work, told["as_json"])


@contextlib.asynccontextmanager
async def site_of(told: Any, standby: str) -> AsyncIterator[Any]:
    """Open the hypervisor and the network that wishes or facts name; ``told.device`` is the text of the device."""
    from tapbond.migration.backend import choose  # noqa: PLC0415
    from tapbond.migration.kernel import KernelNetwork  # noqa: PLC0415
    from tapbond.migration.step import Site  # noqa: PLC0415

    hypervisor = choose(
        told.domain,
        connect=told.connect,
        device=told.device,
        standby=standby,
        destination=told.destination,
        transport=told.transport,
    )
    network = KernelNetwork(told.netns)
    async with contextlib.AsyncExitStack() as unwind:
        unwind.push_async_callback(network.close)
        await network.open()
        unwind.push_async_callback(hypervisor.close)
        await hypervisor.open()
        yield Site(hypervisor, network)


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
