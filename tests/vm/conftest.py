"""The machine of the VM tests, and the table that they fill."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from itinerary import itinerary
from moving import Journey
from outcomes import Outcomes
from rig import Rig, device
from scenarios import ALL
from subjects import SUBJECTS, Subject

from tapbond.errors import TapbondError
from tapbond.lab.vm import image
from tapbond.lab.vm.kernel import Kernel

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"
ITINERARY = ROOT / "docs" / "migration-table.md"
BUILD = ROOT / "build"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-docs", action="store_true", help="write the outcomes into docs/conformance.md")


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    made = Outcomes(DOCUMENT)
    yield made
    text = made.document(ALL)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "conformance.md").write_text(text, encoding="utf-8")
    (BUILD / "conformance.json").write_text(json.dumps(made.record(), indent=1), encoding="utf-8")
    if request.config.getoption("--update-docs"):
        DOCUMENT.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def journeys(request: pytest.FixtureRequest) -> Iterator[dict[str, Journey]]:
    made: dict[str, Journey] = {}
    yield made
    if made:
        text = itinerary(made)
        (BUILD / "migration-table.md").write_text(text, encoding="utf-8")
        if request.config.getoption("--update-docs") and len(made) == len(SUBJECTS):
            ITINERARY.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    try:
        return Kernel(BUILD / "vm" / "kernel")
    except TapbondError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"in CI this must run: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def root(kernel: Kernel) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm", dir=BUILD / "vm") as folder:
        path = Path(folder) / "root"
        image.build(path, kernel)
        yield path


@pytest.fixture(scope="module")
def rig(kernel: Kernel, root: Path) -> Iterator[Rig]:
    nics = {"standby": device("standby", failover=True), "primary": device("primary")}
    with tempfile.TemporaryDirectory(prefix="vm") as folder, Rig(Path(folder), kernel, root, nics) as made:
        yield made


@pytest.fixture(scope="session")
def subjects() -> dict[str, Subject]:
    return {name: make() for name, make in SUBJECTS.items()}
