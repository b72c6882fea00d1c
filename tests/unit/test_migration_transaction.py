"""The transaction of a migration: a fault or a kill at every point leaves all as it was, or migrated whole.

Points are counted, not named: every change of the world and every write of the journal, before it and after it.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapbond.migration import (
    Facts,
    HypervisorError,
    MigrationError,
    NoWayBackError,
    PreconditionError,
    Transaction,
    UndoneError,
    UnfinishedError,
    Wishes,
    plan,
    survey,
)
from tapbond.migration.facts import ZERO_MAC, FdbEntry, Kind, Place
from tapbond.migration.journal import Journal, Record, State
from tapbond.migration.step import Site
from tapbond.migration.transaction import Said, What
from tapbond.testing.hypervisor import MAC, PF, TAP, UPLINK, FakeHost, Power, World

TO = "qemu+ssh://far/system"
MIGRATE = Wishes(kind=Kind.MIGRATE, domain="vm-01", to=TO, uplink=UPLINK, pf=PF, vf=1)
REATTACH = Wishes(kind=Kind.REATTACH, domain="vm-01", uplink=UPLINK, pf=PF, vf=1)
ENTRIES = {FdbEntry(mac=MAC, link=UPLINK, master=False), FdbEntry(mac=MAC, link=TAP, master=True)}
BEFORE = World()
MOVED = World(place=Place.THERE, link_up=True, plugged=False, vf_macs=BEFORE.vf_macs | {1: ZERO_MAC})
ARRIVED = World(link_up=True, plugged=False, vf_macs=BEFORE.vf_macs | {1: ZERO_MAC}, fdb=ENTRIES)
ATTACHED = World()


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is under test is the order of things; that the disk is waited for has a test of its own."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    return synced


class Points:
    """Counts the points that a run passes, and strikes at one of them."""

    def __init__(self, strike_at: int, error: Callable[[], BaseException]) -> None:
        self.passed = 0
        self.strike_at = strike_at
        self.error = error

    def __call__(self, _name: str = "") -> None:
        self.passed += 1
        if self.passed == self.strike_at:
            raise self.error()


class StruckJournal(Journal):
    """A journal whose writes are points too."""

    points: Points | None = None

    def save(self, record: Record) -> None:
        if self.points:
            self.points()
        super().save(record)
        if self.points:
            self.points()

    def forget(self) -> None:
        if self.points:
            self.points()
        super().forget()
        if self.points:
            self.points()


def failure() -> HypervisorError:
    return HypervisorError("struck")


async def facts_of(world: World, wishes: Wishes) -> Facts:
    host = FakeHost(world)
    return await survey(Site(host, host), wishes)


async def attempt(world: World, folder: Path, points: Points, *, wishes: Wishes, journal_too: bool) -> None:
    facts = await facts_of(world, wishes)
    host = FakeHost(world, points, points)
    journal = StruckJournal("vm-01", folder)
    journal.points = points if journal_too else None
    journal.open()
    try:
        await Transaction(Site(host, host), journal).run(facts)
    finally:
        journal.close()


async def again(world: World, folder: Path, how: str) -> None:
    """Do what a person does after a crash: a new process, the journal and the world as they were left."""
    host = FakeHost(world)
    journal = Journal("vm-01", folder)
    journal.open()
    try:
        record = journal.load()
        if record is not None:
            transaction = Transaction(Site(host, host), journal)
            await (transaction.resume(record) if how == "resume" else transaction.abort(record))
        assert journal.load() is None
    finally:
        journal.close()


async def points_of(wishes: Wishes, start: World, folder: Path, *, journal_too: bool) -> int:
    points = Points(0, Power)
    await attempt(start.copy(), folder, points, wishes=wishes, journal_too=journal_too)
    return points.passed


CASES = [(MIGRATE, BEFORE, MOVED), (REATTACH, ARRIVED, ATTACHED)]
KINDS = pytest.mark.parametrize(("wishes", "start", "end"), CASES, ids=lambda case: str(getattr(case, "kind", "")))


@KINDS
async def test_all_of_it(wishes: Wishes, start: World, end: World, tmp_path: Path) -> None:
    world = start.copy()
    await attempt(world, tmp_path, Points(0, failure), wishes=wishes, journal_too=True)
    assert world == end
    assert [name[-5:] for name in os.listdir(tmp_path)] == [".lock"]


@KINDS
async def test_a_failure_at_every_change_leaves_all_as_it_was_or_moved_whole(
    wishes: Wishes, start: World, end: World, tmp_path: Path
) -> None:
    count = await points_of(wishes, start, tmp_path, journal_too=False)
    assert count > 2 * (len(plan(await facts_of(start, wishes))) - 1)
    outcomes = []
    for number in range(1, count + 1):
        world = start.copy()
        try:
            await attempt(world, tmp_path, Points(number, failure), wishes=wishes, journal_too=False)
            outcomes.append("moved")
        except UndoneError:
            outcomes.append("undone")
        except UnfinishedError:
            assert world.place is Place.THERE
            await again(world, tmp_path, "resume")
            outcomes.append("finished")
        assert world == (start if outcomes[-1] == "undone" else end), number
        assert Journal("vm-01", tmp_path).load() is None
    assert outcomes == sorted(outcomes, key=["undone", "moved", "finished"].index)


@KINDS
@pytest.mark.parametrize("how", ["resume", "abort"])
async def test_a_kill_at_every_point_is_resumed_or_aborted(
    wishes: Wishes, start: World, end: World, how: str, tmp_path: Path
) -> None:
    count = await points_of(wishes, start, tmp_path, journal_too=True)
    for number in range(1, count + 1):
        world = start.copy()
        with pytest.raises(Power):
            await attempt(world, tmp_path, Points(number, Power), wishes=wishes, journal_too=True)
        begun = Journal("vm-01", tmp_path).load() is not None
        try:
            await again(world, tmp_path, how)
        except NoWayBackError:
            assert how == "abort"
            await again(world, tmp_path, "resume")
        if not begun:
            assert world in (start, end), number
        elif how == "resume" or world.place is Place.THERE:
            assert world == end, number
        else:
            assert world == start, number


async def struck(world: World, folder: Path, points: Points, *, backward: bool) -> None:
    """Resume or abort, and be struck again."""
    host = FakeHost(world, points, points)
    journal = StruckJournal("vm-01", folder)
    journal.points = points
    journal.open()
    try:
        if (record := journal.load()) is not None:
            transaction = Transaction(Site(host, host), journal)
            await (transaction.abort(record) if backward else transaction.resume(record))
    finally:
        journal.close()


STRIKES = st.tuples(st.integers(1, 60), st.sampled_from([Power, failure]))


@KINDS
@settings(deadline=None, max_examples=100)
@given(first=STRIKES, lives=st.lists(st.tuples(STRIKES, st.booleans()), max_size=4), last=st.booleans())
def test_kills_and_failures_in_any_order_end_well(
    wishes: Wishes,
    start: World,
    end: World,
    first: tuple[int, Callable[[], BaseException]],
    lives: list[tuple[tuple[int, Callable[[], BaseException]], bool]],
    last: bool,
) -> None:
    """Run, be killed or fail at some point, resume or abort, be killed in that too, and so on."""

    async def life(folder: Path) -> None:
        world = start.copy()
        with contextlib.suppress(Power, MigrationError):
            await attempt(world, folder, Points(*first), wishes=wishes, journal_too=True)
        for strike, backward in lives:
            with contextlib.suppress(Power, MigrationError):
                await struck(world, folder, Points(*strike), backward=backward)
        try:
            await again(world, folder, "abort" if last else "resume")
        except MigrationError:  # too late to abort, or to resume
            record = Journal("vm-01", folder).load()
            assert record is not None
            await again(world, folder, "abort" if record.backward else "resume")
        assert world in (start, end)

    with TemporaryDirectory() as folder:
        asyncio.run(life(Path(folder)))


async def run_with(host: FakeHost, folder: Path, wishes: Wishes = MIGRATE, **options: object) -> list[Said]:
    said: list[Said] = []
    journal = Journal("vm-01", folder)
    journal.open()
    try:
        facts = await survey(Site(host, host), wishes)
        await Transaction(Site(host, host), journal, tell=said.append, **options).run(facts)  # type: ignore[arg-type]
    finally:
        journal.close()
        run_with.said = said  # type: ignore[attr-defined]
    return said


async def test_a_guest_that_does_not_let_go_loses_nothing(tmp_path: Path) -> None:
    host = FakeHost(BEFORE.copy())
    host.answers = False
    with pytest.raises(UndoneError, match="the guest does not let go of it: everything was undone"):
        await run_with(host, tmp_path)
    assert host.world == BEFORE
    told = [(said.what, said.step) for said in run_with.said]  # type: ignore[attr-defined]
    assert told == [
        (What.DOING, "standby-link"),
        (What.DONE, "standby-link"),
        (What.DOING, "unplug"),
        (What.FAILED, "unplug"),
        (What.UNDOING, "unplug"),
        (What.UNDONE, "unplug"),
        (What.UNDOING, "standby-link"),
        (What.UNDONE, "standby-link"),
    ]


async def test_an_interruption_during_the_move_cancels_it_and_undoes_all(tmp_path: Path) -> None:
    host = FakeHost(BEFORE.copy())
    host.hangs = True
    interrupt = asyncio.Event()
    with pytest.raises(UndoneError, match=r"^interrupted: everything was undone"):
        await run_with(host, tmp_path, interrupt=interrupt, report=lambda _progress: interrupt.set())
    assert host.world == BEFORE


async def test_an_interruption_that_comes_too_late_finishes(tmp_path: Path) -> None:
    interrupt = asyncio.Event()
    host = FakeHost(BEFORE.copy())
    host.after = lambda name: interrupt.set() if name.startswith("move") else None
    await run_with(host, tmp_path, interrupt=interrupt)
    assert host.world == MOVED


async def test_a_failure_after_the_move_still_cleans_up_the_rest(tmp_path: Path) -> None:
    host = FakeHost(BEFORE.copy())

    def fail(name: str) -> None:
        if name.startswith("bridge fdb del") and UPLINK in name:
            raise failure()

    host.before = fail
    with pytest.raises(UnfinishedError, match="runs on the destination, but something is left here"):
        await run_with(host, tmp_path)
    assert host.world.fdb == {FdbEntry(mac=MAC, link=UPLINK, master=False)}
    await again(host.world, tmp_path, "resume")
    assert host.world == MOVED


async def test_where_nobody_knows_where_the_guest_is_nothing_is_touched(tmp_path: Path) -> None:
    host = FakeHost(BEFORE.copy())

    def lose(name: str) -> None:
        if name.startswith("move"):
            host.world.place = Place.UNCLEAR

    host.after = lose
    with pytest.raises(UnfinishedError, match="does not say whether it runs there"):
        await run_with(host, tmp_path)
    assert not host.world.plugged
    assert host.world.fdb == ENTRIES
    host.world.place = Place.HERE
    await again(host.world, tmp_path, "abort")
    assert host.world == BEFORE


async def test_an_undo_that_fails_does_not_keep_the_others_from_being_undone(tmp_path: Path) -> None:
    host = FakeHost(BEFORE.copy())
    broken = [True]

    def fail(name: str) -> None:
        if name.startswith("start") or (broken[0] and name == f"{PF} vf 1 mac {MAC}"):
            raise failure()

    host.before = fail
    with pytest.raises(UnfinishedError, match=rf"--abort tries again\): ip link set {PF} vf 1 mac {MAC}: struck"):
        await run_with(host, tmp_path)
    assert host.world == World(vf_macs=BEFORE.vf_macs | {1: ZERO_MAC})
    await again(host.world, tmp_path, "abort")
    assert host.world == BEFORE


async def test_what_is_being_undone_cannot_be_resumed(tmp_path: Path) -> None:
    journal = Journal("vm-01", tmp_path)
    journal.open()
    host = FakeHost(BEFORE.copy())
    facts = await facts_of(BEFORE, MIGRATE)
    record = Record(facts=facts, backward=True, states={"standby-link": State.DONE})
    with pytest.raises(MigrationError, match="was being undone already"):
        await Transaction(Site(host, host), journal).resume(record)
    journal.close()


async def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(BEFORE.copy())
    saves = [0]
    save = Journal.save

    def full(journal: Journal, record: Record) -> None:
        saves[0] += 1
        if saves[0] >= 6:
            raise MigrationError("no space")
        save(journal, record)

    monkeypatch.setattr(Journal, "save", full)
    with pytest.raises(UndoneError, match="no space"):
        await run_with(host, tmp_path)
    assert host.world == BEFORE


async def test_every_write_is_on_the_disk_before_it_counts(tmp_path: Path, quick_disk: list[int]) -> None:
    journal = Journal("vm-01", tmp_path)
    journal.open()
    journal.save(Record(facts=await facts_of(BEFORE, MIGRATE)))
    assert len(quick_disk) == 2  # the file, then the folder
    journal.close()


def test_two_cannot_migrate_one_domain(tmp_path: Path) -> None:
    first, second = Journal("/run/vm.sock", tmp_path), Journal("/run/vm.sock", tmp_path)
    first.open()
    with pytest.raises(Exception, match="already being migrated by process"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_a_journal_that_is_cut_short_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "vm-01.migration").write_text('{"version": 1, "fac')
    with pytest.raises(MigrationError, match="unreadable"):
        Journal("vm-01", tmp_path).load()


async def test_a_dry_plan_is_the_documents_script() -> None:
    assert [step.text for step in plan(await facts_of(BEFORE, MIGRATE))] == [
        "set the link of ua-backup0 up",
        "unplug ua-vf0 (the guest has 30 s to let go)",
        f"ip link set ens6np0 vf 1 mac {ZERO_MAC}",
        f"bridge fdb add {MAC} dev ens6v1",
        f"bridge fdb replace {MAC} dev vmtap01 master static",
        f"migrate vm-01 to {TO}",
        f"bridge fdb del {MAC} dev ens6v1",
        f"bridge fdb del {MAC} dev vmtap01 master static",
    ]
    assert [step.text for step in plan(await facts_of(ARRIVED, REATTACH))] == [
        f"bridge fdb del {MAC} dev ens6v1",
        f"bridge fdb del {MAC} dev vmtap01 master static",
        f"ip link set ens6np0 vf 1 mac {MAC}",
        "plug ua-vf0 in",
        "set the link of ua-backup0 down",
    ]


@pytest.mark.parametrize("case", CASES, ids=["migrate", "reattach"])
async def test_no_two_steps_have_one_key(case: tuple[Wishes, World, World]) -> None:
    keys = [step.key for step in plan(await facts_of(case[1], case[0]))]
    assert len(keys) == len(set(keys))


def not_running(host: FakeHost) -> None:
    host.world.place = Place.MOVING


def unplugged(host: FakeHost) -> None:
    host.world.plugged = False


def no_tap(host: FakeHost) -> None:
    del host.links[TAP]


def no_pf(host: FakeHost) -> None:
    del host.links[PF]


def no_vf(host: FakeHost) -> None:
    del host.world.vf_macs[1]


def other_mac(host: FakeHost) -> None:
    host.world.vf_macs[1] = "02:00:00:00:00:09"


def entry_there(host: FakeHost) -> None:
    host.world.fdb = set(ENTRIES)


def no_bridge(host: FakeHost) -> None:
    from msgspec.structs import replace  # noqa: PLC0415

    host.links[TAP] = replace(host.links[TAP], master=0)


def other_bridge(host: FakeHost) -> None:
    from msgspec.structs import replace  # noqa: PLC0415

    host.links[TAP] = replace(host.links[TAP], master=3)


def far_host_away(host: FakeHost) -> None:
    host.destination_problems = [f"{TO}: no route to host"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (not_running, "vm-01: not running"),
        (unplugged, "ua-vf0: not plugged in, nothing to unplug"),
        (no_tap, "vmtap01: no such interface"),
        (no_pf, "ens6np0: no such interface"),
        (no_vf, "ens6np0: has no VF 1"),
        (other_mac, "VF 1 has the MAC 02:00:00:00:00:09, not that of the guest"),
        (entry_there, f"ens6v1: {MAC} is in its forwarding table already (bridge fdb del {MAC} dev ens6v1)"),
        (no_bridge, "vmtap01: not a port of a bridge"),
        (other_bridge, "ports of different bridges (ens6np0, br0)"),
        (far_host_away, "no route to host"),
    ],
)
async def test_a_precondition_that_fails_touches_nothing(spoil: Callable[[FakeHost], None], words: str) -> None:
    host = FakeHost(BEFORE.copy(), before=pytest.fail)
    spoil(host)
    left = host.world.copy()
    with pytest.raises(PreconditionError) as error:
        await survey(Site(host, host), MIGRATE)
    assert words in str(error.value)
    assert host.world == left


async def test_all_that_is_wrong_is_told_at_once() -> None:
    host = FakeHost(BEFORE.copy())
    for spoil in (unplugged, no_vf, far_host_away):
        spoil(host)
    with pytest.raises(PreconditionError) as error:
        await survey(Site(host, host), MIGRATE)
    assert len(error.value.problems) == 3


async def test_a_link_that_cannot_be_read_is_taken_for_what_it_is_at_rest() -> None:
    host = FakeHost(BEFORE.copy())
    host.tells_link = False
    assert not (await survey(Site(host, host), MIGRATE)).link_was_up
    up = Wishes(kind=Kind.MIGRATE, domain="vm-01", to=TO, link_at_rest="up")
    assert "standby-link" not in [step.key for step in plan(await survey(Site(host, host), up))]
