"""A scenario: written once, run with every subject; its outcome is one cell of the table."""

from collections.abc import Callable
from dataclasses import dataclass

from trial import Trial


@dataclass(frozen=True)
class Scenario:
    """What is done, and why subjects differ in what comes of it."""

    name: str
    run: Callable[[Trial], str]
    why: dict[str, str]
    """By subject: why it differs from tapbond."""

    @property
    def slug(self) -> str:
        """Its name as pytest shows it."""
        return self.run.__name__


SCENARIOS: list[Scenario] = []


def scenario(name: str, **why: str) -> Callable[[Callable[[Trial], str]], Callable[[Trial], str]]:
    """Enter a function into the list of scenarios.

    Args:
        name: for the table.
        why: by subject, why it differs from tapbond.
    """

    def enter(run: Callable[[Trial], str]) -> Callable[[Trial], str]:
        SCENARIOS.append(Scenario(name, run, why))
        return run

    return enter


def said(*parts: str) -> str:
    """Join what was seen into one cell."""
    return "; ".join(parts)
