"""docs/conformance.md is what the suite wrote, complete, and every difference in it has its reason."""

import pytest
from conftest import DOCUMENT
from scenario import Scenario
from scenarios import ALL
from table import SUBJECTS, document, read, unexplained

pytestmark = pytest.mark.selection


def test_document_is_generated() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(ALL, read(DOCUMENT)), "make test-vm VM=--update-docs"


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.slug)
def test_each_difference_is_explained(scenario: Scenario) -> None:
    cells = read(DOCUMENT)
    assert all((scenario.name, subject) in cells for subject in SUBJECTS)
    for subject in SUBJECTS[1:]:
        assert not unexplained(scenario, subject, cells), f"why does {subject} differ?"
        if subject in scenario.why:
            assert unexplained(scenario, subject, cells) is False, (
                f"{subject} does not differ: no reason is needed"
            )
