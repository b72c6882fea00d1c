"""What is wrong with a domain's pair, where, and how it is cured."""

from enum import StrEnum

import msgspec

from tapbond.teaming.source import Edit


class Severity(StrEnum):
    """Whether the pair works."""

    ERROR = "error"
    """It does not, or not as the document has it."""
    NOTE = "note"
    """It does; something is worth knowing."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    line: int
    """Of the element, from 1."""
    text: str
    """What is wrong, and the way out in parentheses."""
    severity: Severity = Severity.ERROR
    cure: tuple[Edit, ...] = ()
    """What writes the missing part; empty: only a person can tell what is meant."""

    def __str__(self) -> str:
        fixable = " [--fix writes it]" if self.cure else ""
        return f"{self.line}: {self.severity}: {self.text}{fixable}"

    def as_dict(self) -> dict[str, object]:
        """Return what programs are told."""
        return {"line": self.line, "severity": self.severity, "text": self.text, "fixable": bool(self.cure)}
