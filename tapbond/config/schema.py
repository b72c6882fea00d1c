"""The JSON Schema of configuration files (json-schema.org, 2020-12)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tapbond.config.options import Options

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Return it.

    Args:
        descriptions: of each key, where there is one.
    """
    made = msgspec.json.schema(Options)
    (definition,) = (made["$defs"].pop(name) for name in ("Options",))
    for key, value in definition["properties"].items():
        if key in descriptions:
            value["description"] = descriptions[key]
    return {
        "$schema": DIALECT,
        "title": "tapbond configuration",
        "description": "/etc/tapbond/NAME.toml: the options of the failover NAME",
        **{key: value for key, value in definition.items() if key != "title"},
        "$defs": {
            name: {k: v for k, v in kind.items() if k != "description"} for name, kind in made["$defs"].items()
        },
    }
