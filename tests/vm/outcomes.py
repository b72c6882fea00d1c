"""What the scenarios of one run came to, beside what is documented."""

from dataclasses import asdict
from pathlib import Path

from scenario import Scenario
from table import Cells, cell_of, cost_row, document, read
from traffic import Figures


class Outcomes:
    """Cells and figures, filled as the scenarios run.

    Args:
        documented: where the expected ones are.
    """

    def __init__(self, documented: Path) -> None:
        self.documented = read(documented)
        self._cells: Cells = {}
        self._figures: dict[tuple[str, str], Figures] = {}

    def note(self, scenario: Scenario, subject: str, outcome: str, figures: dict[str, Figures]) -> None:
        """Note what a scenario came to, and what its events cost."""
        self._cells[scenario.name, subject] = outcome
        self._figures |= {(event, subject): cost for event, cost in figures.items()}

    def document(self, scenarios: list[Scenario]) -> str:
        """Return the document as it would be with this run's outcomes."""
        costs = {(cost_row(event), subject): cell_of(cost) for (event, subject), cost in self._figures.items()}
        return document(scenarios, self.documented | self._cells | costs)

    def record(self) -> dict[str, object]:
        """Return this run's outcomes and figures, as JSON takes them."""
        return {
            "outcomes": {f"{subject}: {name}": cell for (name, subject), cell in self._cells.items()},
            "figures": {f"{subject}: {event}": asdict(cost) for (event, subject), cost in self._figures.items()},
        }
