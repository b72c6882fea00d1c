"""``tapbond migrate`` and ``reattach``: what they refuse, and what they print."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tapbond.cli import cli
from tapbond.cli.screen import Screen
from tapbond.migration.facts import Progress
from tapbond.migration.transaction import Said, What


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["migrate", "vm-01"], "give --to URI, or --resume, or --abort"),
        (["migrate", "vm-01", "--to", "x", "--abort"], "give --to URI, or --resume, or --abort"),
        (["migrate", "vm-01", "--resume", "--abort"], "give --to URI, or --resume, or --abort"),
        (["migrate", "vm-01", "--to", "x", "--unplug-timeout", "0"], "--unplug-timeout"),
        (["reattach", "vm-01", "--prepare", "52:54:00:00:12:53"], "give --prepare MAC with --uplink LINK"),
        (["reattach", "vm-01", "--device", "/nonexistent"], "does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], words: str) -> None:
    told = CliRunner().invoke(cli, arguments)
    assert told.exit_code == 2
    assert words in told.output


@pytest.mark.parametrize("how", ["resume", "abort"])
def test_without_a_journal_there_is_nothing_to_take_up(tmp_path: Path, how: str) -> None:
    told = CliRunner().invoke(cli, ["migrate", "vm-01", f"--{how}", "--state-dir", str(tmp_path)])
    assert (told.exit_code, told.output) == (0, f"vm-01: nothing to {how}\n")


def test_what_happens_is_a_line_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=False)
    for what in What:
        screen.tell(Said(what=what, step="unplug", text="unplug vf0"))
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        "... unplug vf0",
        "ok  unplug vf0",
        "FAIL unplug vf0",
        "undo unplug vf0",
        "ok  unplug vf0",
        "FAIL unplug vf0",
        "unplug vf0",
    ]


def test_what_happens_is_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.report(Progress(transferred=1, remaining=3, total=4, rate=1.5))
    told = json.loads(capsys.readouterr().out)
    del told["time"]
    assert told == {"event": "progress", "transferred": 1, "remaining": 3, "total": 4, "rate": 2, "left_s": 2.0}


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(as_json=False)
    screen.report(Progress(transferred=1 << 20, remaining=3 << 20, total=4 << 20, rate=1e6))
    screen.tell(Said(what=What.DONE, step="move", text="migrate vm-01"))
    told = capsys.readouterr().out
    assert "1.0/4.2 MB" in told
    assert told.endswith("  ok  migrate vm-01\n")
