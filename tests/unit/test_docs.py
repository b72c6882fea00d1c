"""What the documents say of tests and options is so."""

import ast
import re
from pathlib import Path

import click
import pytest

from tapbond.cli import cli
from tapbond.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
OPTION = re.compile(r"`(--[a-z][a-z-]+)")


def options() -> set[str]:
    found: set[str] = {"--map-root-user", "--user", "--net", "--device", "--junit-xml", "--migrateuri"}
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        for parameter in command.params if command else ():
            if isinstance(parameter, click.Option):
                found.update(parameter.opts + parameter.secondary_opts)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(document: Path) -> None:
    named = TEST.findall(document.read_text())
    missing = []
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text()) if (ROOT / path).exists() else ast.Module([], [])
        functions = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if not functions or (name and name not in functions):
            missing.append(f"{path}::{name}")
    assert missing == []


@pytest.mark.parametrize("document", [ROOT / "README.md", *DOCUMENTS], ids=lambda path: path.name)
def test_every_option_that_is_named_exists(document: Path) -> None:
    assert (
        set(OPTION.findall(document.read_text())) - options() - {"--runs", "--json", "--plot", "--seconds"}
        == set()
    )


def test_nothing_is_left_to_be_filled_in() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"::…|\| [A-Z]{5,}[A-Z-]* \|", document.read_text()), document
