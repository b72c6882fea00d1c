"""What the demo shows, as text: it fits 80 columns and says what happened."""

import io

import msgspec
from demo_evidence import EVENT_NS, INTERVAL, MS, evidence, flow, outcome, switchover
from rich.console import Console

from tapbond.lab.demo import table, view
from tapbond.lab.demo.performance import Scene
from tapbond.lab.demo.plan import STEPS
from tapbond.lab.demo.stage import Counts
from tapbond.model import Counters, ReceiveMode, Role
from tapbond.state import SlaveStatus, Status

COUNTERS = Counters()


def status(active: str = "eth1", *, plugged: bool = True) -> Status:
    names = {"eth0": Role.STANDBY} | ({"eth1": Role.PRIMARY} if plugged else {})
    slaves = tuple(
        SlaveStatus(
            name=name,
            role=role,
            ifindex=number,
            mac="02:00:00:00:00:53",
            mtu=1500,
            up=True,
            carrier=True,
            ready=True,
            active=name == active,
            isolation="bridge",
            counters=COUNTERS,
        )
        for number, (name, role) in enumerate(names.items(), start=2)
    )
    return Status(
        name="tb0",
        ifindex=9,
        mac="02:00:00:00:00:53",
        mtu=1500,
        up=True,
        carrier=True,
        active=active,
        requested=None,
        rx=ReceiveMode.ACTIVE,
        isolation="bridge",
        slaves=slaves,
        counters=COUNTERS,
        switchovers=1,
        last_switchovers=(),
        pid=1,
        uptime_s=1.0,
    )


def scene(elapsed_s: float = 2.0, *, answered: bool = True, events: int = 1) -> Scene:
    return Scene(
        elapsed_s=elapsed_s,
        counts=Counts(to_far=625, to_host=100, tcp_bytes=781_250),
        interval_s=0.125,
        status=status("eth0"),
        marks=[(STEPS[0], EVENT_NS)] * events,
        switchovers=[switchover()] if answered else [],
        now_ns=EVENT_NS + 1000 * MS,
        rate=5000,
        tcp_rate=6_250_000.0,
    )


def console(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=False, highlight=False)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_table_fits_80_columns_and_has_a_row_an_event() -> None:
    screen = console()
    late = flow(lost=range(EVENT_NS // INTERVAL, EVENT_NS // INTERVAL + 40))
    made = outcome(evidence(to_host=late))
    screen.print(table.table(made))
    for line in [*table.notes(made), *table.conclusion(made)]:
        assert len(line) <= 80
    lines = text(screen).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text(screen)
    (row,) = [line for line in lines if line.startswith("primary set down")]
    assert row.split() == [
        "primary",
        "set",
        "down",
        "netlink",
        "0.25",
        "0.00",
        "4.00",
        "0",
        "40",
        "3",
        "0",
        "0",
        "alive",
    ]
    assert table.conclusion(made)[0].startswith("passed")


def test_table_says_when_the_sender_was_late_itself() -> None:
    row = outcome(evidence()).rows[1]
    late = msgspec.structs.replace(row.to_far, outage_ms=4.0, sender_late_ms=3.9)
    made = msgspec.structs.replace(outcome(evidence()), rows=(msgspec.structs.replace(row, to_far=late),))
    assert table.cells(made.rows[0])[3] == "4.00*"
    assert any("sender itself was late" in note for note in table.notes(made))
    assert not any("sender itself was late" in note for note in table.notes(outcome(evidence())))


def test_failure_names_every_fault() -> None:
    gone = flow(lost=range(EVENT_NS // INTERVAL, 20_000))
    said = table.conclusion(outcome(evidence(to_far=gone)))
    assert said == ["FAILED:", "  primary set down: host to far did not recover"]
    assert table.cells(outcome(evidence(to_far=gone)).rows[1])[3] == "for ever"


def test_lines_tell_each_event_once_it_is_answered() -> None:
    screen = console()
    lines = view.LineView(screen)
    lines.begin("building")
    with lines.running():
        for each in (scene(answered=False), scene(), scene()):
            lines.show(each)
    assert text(screen).splitlines() == [
        "building",
        "  1.0 s  primary set down    eth1 → eth0, netlink after 0.25 ms, 3 re-sent",
    ]


def test_picture_fits_80_by_24() -> None:
    screen = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    live = view.LiveView(screen)
    with live.running():
        live.begin("building")
        live.show(scene(events=30))
        drawn = live.picture(scene(events=30))
    plain = console()
    plain.print(drawn)
    lines = text(plain).splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert any("eth0 standby active" in line for line in lines)
    assert any("host → far" in line and "5000 frames/s" in line for line in lines)
    assert "\N{ESC}[?25h" in text(screen)  # the cursor is back


def test_unplugged_primary_is_called_so() -> None:
    assert view.slave_state(status("eth0", plugged=False), "eth1")[0] == "unplugged"
    assert view.slave_state(status("eth0"), "eth1")[0] == "ready"


def test_bars_are_as_high_as_the_rate() -> None:
    assert view.bars([0, 50, 100, 200], 100) == " ▄██"
    assert view.bars([1.0], 0) == " "


def test_picture_is_for_terminals() -> None:
    assert isinstance(view.choose(console()), view.LineView)
    assert isinstance(view.choose(Console(file=io.StringIO(), force_terminal=True)), view.LiveView)
