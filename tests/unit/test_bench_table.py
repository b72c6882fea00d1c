"""The tables and the JSON of a comparison, and what is refused before anything is built."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from tapbond.bench import arena, grid, plot, summary_plot, table, targets
from tapbond.bench.arena import trial
from tapbond.bench.comparison import Comparison
from tapbond.bench.crowd import Measured
from tapbond.bench.figures import Spread
from tapbond.bench.loads import BOTH, LOADS, NAMES
from tapbond.bench.machine import Machine
from tapbond.bench.plan import Settings, names
from tapbond.bench.result import Result, Series, Trial
from tapbond.bench.subjects import FAILOVERS, SUBJECTS
from tapbond.cli import cli
from tapbond.errors import TapbondError
from tapbond.lab.demo.outcome import Direction, Row

SETTINGS = Settings(
    rounds=3, seconds=1.0, subjects=("bridge", "tapbond"), loads=("tcp", "rr"), repetitions=2, rate=10_000
)
MACHINE = Machine(
    cpu="Some CPU",
    cpus=2,
    virtual=True,
    arch="x86_64",
    kernel="6.18.0",
    memory_mib=2048,
    congestion_control="bbr",
    python="3.11.7",
    tapbond="0.1.0",
    tools={"iperf3": "3.12"},
    load_average=(0.5, 0.4, 0.3),
)


def path(outage_ms: float = 1.0, lost: int = 0) -> Direction:
    return Direction(
        sent=5000,
        unsent=0,
        lost=lost,
        duplicated=0,
        reordered=0,
        outage_ms=outage_ms,
        sender_late_ms=0.0,
        recovered=True,
    )


def one(repetition: int, detector: str, outage_ms: float, lost: int) -> Trial:
    return Trial(
        subject="tapbond",
        repetition=repetition,
        event="carrier-lost",
        label="carrier lost",
        planned=False,
        switched=True,
        detector=detector,
        detection_ms=outage_ms / 2,
        resent=1,
        to_far=path(outage_ms),
        from_far=path(outage_ms * 2, lost),
    )


def result(*trials: Trial, skipped: tuple[str, ...] = ()) -> Result:
    def series(load: str, direction: str, subject: str, metric: str, *values: float) -> Series:
        return Series(load=load, direction=direction, subject=subject, metric=metric, values=values)

    return Result(
        machine=MACHINE,
        settings=SETTINGS,
        skipped=skipped,
        series=(
            series("tcp", "to far", "bridge", "Gbit/s", 10, 20, 30),
            series("tcp", "to far", "tapbond", "Gbit/s", 9, 18, 24),
            series("tcp", "from far", "bridge", "Gbit/s", 10, 10, 10),
            series("rr", "round trip", "bridge", "p50 µs", 20, 21, 22),
            series("rr", "round trip", "tapbond", "p50 µs", 30, 31, 34),
        ),
        trials=trials,
        seconds=12.0,
        load_average_end=(1.0, 1.0, 1.0),
    )


def test_a_table_has_medians_their_spread_and_ratios_round_by_round() -> None:
    text = table.markdown(result())
    row = next(line for line in text.splitlines() if line.startswith("| tapbond"))
    assert "18 (9…24)" in row
    assert "0.9 (0.8…0.9)" in row
    assert row.count(" - ") == 2  # from far was not measured


def test_what_is_better_lower_is_compared_by_difference() -> None:
    text = table.markdown(result())
    row = [line for line in text.splitlines() if line.startswith("| tapbond")][1]
    assert "31 (30…34)" in row
    assert "10 (10…12)" in row


def test_outages_are_told_by_event_and_by_detector() -> None:
    text = table.markdown(result(one(0, "netlink", 2.0, 3), one(1, "pump", 1.0, 0)))
    rows = [line for line in text.splitlines() if "path: carrier lost" in line]
    by_event = rows[0]
    assert "2/2" in by_event
    assert "1.00 / 2.00 / 2.00" in by_event
    assert "0 / 3, in 1" in by_event
    assert [row.split("|")[2].strip() for row in rows[1:]] == ["netlink", "pump"]


def test_a_detector_by_itself_has_rows_of_its_own_and_counts_for_no_target() -> None:
    alone = msgspec.structs.replace(one(0, "poll", 20.0, 9), alone="poll", to_far=arena.SILENT)
    text = table.markdown(result(one(0, "netlink", 1.0, 0), alone))
    (row, by_detector) = [line for line in text.splitlines() if "carrier lost (poll alone)" in line]
    assert [cell.strip() for cell in row.split("|")][3:7] == ["-", "40.00 / 40.00 / 40.00", "-", "9 / 9, in 1"]
    assert "poll" in by_detector
    assert "carrier lost, 1 times: outage p99 ms" in text


def test_targets_are_of_the_same_rounds_and_the_median_decides() -> None:
    rows = {row[0]: row[1:] for row in targets.rows(result(one(0, "netlink", 1.0, 0), one(1, "pump", 9.0, 0)))}
    assert rows["TCP, copy path, over veth + bridge"] == ["≥ 0.85 / ≥ 0.85", "0.9 (0.8…0.9)", "-", "no"]
    assert rows["UDP round trips, idle machine, copy path: added p50 µs"][-1] == "yes"
    assert rows["carrier lost, 2 times: outage p50 ms"] == ["≤ 2", "1.00", "2.00", "yes"]
    assert rows["carrier lost, 2 times: outage p99 ms"] == ["≤ 10", "9.00", "18.00", "no"]


def test_a_planned_switch_that_loses_a_frame_misses_its_target() -> None:
    planned = msgspec.structs.replace(one(0, "control", 1.0, 1), planned=True, event="switch")
    (row,) = [row for row in targets.rows(result(planned)) if row[0].startswith("switched")]
    assert row[1:] == ["0, 0, 0", "0, 0, 0", "1, 0, 0", "no"]


def test_what_ended_early_says_so() -> None:
    text = table.markdown(msgspec.structs.replace(result(), partial="interrupted"))
    assert "- **partial: interrupted**" in text
    assert "partial" not in table.markdown(result())


def test_the_head_tells_the_machine_and_what_was_skipped() -> None:
    text = table.markdown(result(skipped=("ovs: is not installed",)))
    assert "Some CPU, 2 processors, virtual, 2048 MiB" in text
    assert "- skipped: ovs: is not installed" in text


def test_every_row_of_a_grid_has_the_same_width() -> None:
    lines = grid.grid([["", "a"], ["long name", "1"], ["b", "1 234"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "|-----------|------:|"


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (12.345, "12.3"), (123456.7, "123 457"), (0, "0")]
)
def test_figures_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert grid.number(value) == text


def test_json_is_read_back_as_it_was() -> None:
    found = result(one(0, "netlink", 2.0, 3))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Result) == found
    raw = msgspec.json.decode(msgspec.json.encode(found))
    assert set(raw) == set(Result.__struct_fields__)


def test_a_fleets_figures_are_read_back_as_they_were() -> None:
    found = Measured(
        home="one process",
        count=1,
        create_ms=1.0,
        create_each_ms=None,
        idle_share=0.01,
        pss_mib=30.0,
        switch_message_ms=1.0,
        switched_ms=Spread(1.0, 2.0, 3.0),
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=Measured) == found


def test_a_time_without_an_event_has_switched_as_it_should() -> None:
    row = Row(
        event="undisturbed",
        label="(undisturbed)",
        planned=True,
        at_s=0.0,
        expected="",
        switched=False,
        cause=None,
        detector=None,
        detection_ms=None,
        resent=0,
        copies_dropped=0,
        to_far=path(),
        to_host=path(),
        tcp_alive=False,
        tcp_stall_ms=0.0,
    )
    assert trial("bridge", 0, row).switched
    assert not trial("tapbond", 0, msgspec.structs.replace(row, expected="eth0")).switched


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("b",)),
        ("all", ("a", "b", "c")),
        ("c, a", ("a", "c")),
        ("a,a", ("a",)),
    ],
)
def test_names_are_a_list_all_or_the_default(text: str, expected: tuple[str, ...]) -> None:
    assert names("load", text, ("a", "b", "c"), ("b",)) == expected


@pytest.mark.parametrize("text", ["nope", "tcp,", ",", "tcp,all"])
def test_a_name_that_is_not_known_is_told_with_those_that_are(text: str) -> None:
    with pytest.raises(TapbondError, match=r"no such load \(all, tcp, "):
        names("load", text, NAMES, ())


def test_every_subject_whose_failover_is_measured_exists() -> None:
    assert set(FAILOVERS) <= set(SUBJECTS)


def test_every_load_has_a_name_of_its_own_that_is_its_key() -> None:
    assert [load.name for load in LOADS.values()] == list(LOADS)
    assert (*LOADS, "failover") == NAMES


def test_nothing_to_measure_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = SUBJECTS["ovs"]._replace(missing=lambda: "ovsdb-tool is not installed")
    monkeypatch.setitem(SUBJECTS, "ovs", absent)
    settings = msgspec.structs.replace(SETTINGS, subjects=("ovs",), loads=("udp60",))
    said: list[str] = []
    with pytest.raises(TapbondError, match=r"nothing was measured: ovs: ovsdb-tool is not installed"):
        Comparison(settings, said.append).play()
    assert said == ["skipped: ovs: ovsdb-tool is not installed"]


def test_a_load_that_cannot_be_had_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOADS, "tcp", LOADS["tcp"]._replace(missing=lambda: "iperf3 is not installed"))
    run = Comparison(msgspec.structs.replace(SETTINGS, subjects=(), loads=("tcp",)), lambda _: None)
    with pytest.raises(TapbondError, match="iperf3 is not installed"):
        run.play()
    assert run.skipped == ["tcp: iperf3 is not installed"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subjects", "nope"), "nope: no such subject"),
        (("--loads", "nope"), "nope: no such load"),
        (("--json", "no/such/file.json"), "no/such/file.json: no such folder"),
        (("--markdown", "no/such/file.md"), "no/such/file.md: no such folder"),
        (("--plot", "plot.pdf"), "plot.pdf: a plot is a .png or .svg file"),
        (("--tapbond-options", "'open"), "--tapbond-options"),
    ],
)
def test_what_is_wrong_is_one_error_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tapbond.cli.interruption.listen", lambda: None)
    found = CliRunner().invoke(cli, ["bench", *arguments])
    assert isinstance(found.exception, TapbondError)
    assert said in str(found.exception)


@pytest.mark.parametrize(
    "arguments", [("--rounds", "0"), ("--seconds", "nan"), ("--rate", "1"), ("--seconds", "x")]
)
def test_numbers_out_of_range_are_usage_errors(arguments: tuple[str, ...]) -> None:
    found = CliRunner().invoke(cli, ["bench", *arguments])
    assert found.exit_code == 2
    assert arguments[0] in found.output


def whole() -> Result:
    def series(load: str, direction: str, subject: str) -> Series:
        values = (1.0, 2.0, 3.0) if subject != "python" else (0.02, 0.03, 0.04)
        metric = LOADS[load].metric
        return Series(load=load, direction=direction, subject=subject, metric=metric, values=values)

    every = [series(load, way, name) for load in ("tcp", "udp60") for way in BOTH for name in SUBJECTS]
    return msgspec.structs.replace(result(one(0, "netlink", 2.0, 3)), series=tuple(every))


@pytest.mark.parametrize("draw", [plot.write, summary_plot.write])
@pytest.mark.parametrize(
    "found", [whole(), result(), msgspec.structs.replace(result(), series=())], ids=["whole", "part", "nothing"]
)
def test_whatever_there_is_can_be_drawn(
    tmp_path: Path, draw: Callable[[Path, Result], None], found: Result
) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "plot.png"
    draw(file, found)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_the_picture_for_a_readme_is_small(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "plot.png"
    summary_plot.write(file, whole())
    assert file.stat().st_size < 100_000
