"""What is different between two configurations, and what of it can be applied while a failover runs: pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tapbond.config.options import DEFAULTS, PARAMETERS, name_of

LIVE = frozenset(
    {
        *("primary", "backups", "sticky", "reselect", "drain", "updelay", "downdelay", "hold_down", "poll"),
        *("announce", "announce_interval", "targets", "probe_interval", "probe_missed", "probe_targets"),
        *("probe_watchers", "probe_grace"),
    }
)
"""Parameters that become settings of tapbond.adjustment.ADJUSTABLE."""

NAMES = {parameter: option for option, parameter in PARAMETERS.items()}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The difference, by the names that a file has."""

    applied: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    """They need one; until then they are as they were."""
    refused: tuple[str, ...] = ()
    """Why links that are named now could not become slaves."""

    def __str__(self) -> str:
        parts = [f"applied: {', '.join(self.applied)}"] if self.applied else []
        parts += [f"needs a restart: {', '.join(self.restart)}"] if self.restart else []
        parts += [f"refused: {'; '.join(self.refused)}"] if self.refused else []
        return "; ".join(parts) or "nothing has changed"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return what is different.

    Args:
        before: as tapbond.config.options.DEFAULTS has them, in whole.
        after: too.
    """
    changed = [parameter for parameter in DEFAULTS if before[parameter] != after[parameter]]
    return Change(
        applied=tuple(_name(parameter) for parameter in changed if parameter in LIVE),
        restart=tuple(_name(parameter) for parameter in changed if parameter not in LIVE),
    )


def applicable(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in force once all of ``after`` that can be applied is."""
    return {parameter: (after if parameter in LIVE else before)[parameter] for parameter in DEFAULTS}


def _name(parameter: str) -> str:
    return name_of(NAMES.get(parameter, parameter))
