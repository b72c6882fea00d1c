"""What is *not* imported by the commands that a person waits for: never how long it takes."""

import subprocess
import sys

import pytest

from tapbond.cli import cli
from tapbond.cli.commands import COMMANDS

HEAVY = ("asyncio", "pyroute2", "rich", "structlog", "uvloop", "ssl", "matplotlib")
"""Some 20 ms each, or more."""
NOT_FOR_HELP = (*HEAVY, "msgspec", "tapbond._core", "tapbond.model", "tapbond.settings", "tomllib", "socket")


def imported(*arguments: str) -> set[str]:
    """Return the modules that a command has imported when it is done."""
    program = "import sys; from tapbond.cli import cli\ntry: cli()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    return set(done.stderr.strip().rpartition("\n")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ()], ids=str)
def test_help_imports_nothing_that_it_does_not_need(arguments: tuple[str, ...]) -> None:
    modules = imported(*arguments)
    assert "click" in modules
    assert modules & set(NOT_FOR_HELP) == set()
    assert {name for name in modules if name.startswith("tapbond.")} == {
        *("tapbond.cli", "tapbond.cli.commands", "tapbond.errors"),
    }


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    assert imported(name, "--help") & set(HEAVY) == set()


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "none"), ("switch", "none", "--auto"), ("reload", "none")], ids=str
)
def test_asking_a_failover_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert imported(*arguments) & set(HEAVY) == set()


def test_every_command_is_listed() -> None:
    context = cli.make_context("tapbond", [], resilient_parsing=True)
    assert cli.list_commands(context) == list(COMMANDS)
    for name in COMMANDS:
        found = cli.get_command(context, name)
        assert found is not None
        assert found.name == name
    assert cli.get_command(context, "commands") is None
