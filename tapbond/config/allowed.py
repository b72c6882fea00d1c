"""What may stand in a configuration file, in words: for whoever wrote something else."""

import difflib
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from tapbond.config.options import ALLOWED, Options, name_of


@cache
def types() -> dict[str, msgspec.inspect.Type]:
    """Return the type of each key of a file."""
    struct = msgspec.inspect.type_info(Options)
    assert isinstance(struct, msgspec.inspect.StructType)  # noqa: S101  (for the type checker)
    return {field.encode_name: field.type for field in struct.fields}


def allowed(key: str) -> str:
    """Return which values a key takes."""
    return _words(types()[key])


def instead_of(key: str) -> str:
    """Return what an unknown key may have been meant to be, and which ones there are."""
    names = [name_of(name) for name in Options.__struct_fields__]
    near = difflib.get_close_matches(name_of(key), names, 1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}allowed: {', '.join(names)}"


def _words(kind: msgspec.inspect.Type, extra: dict[str, Any] | None = None) -> str:
    extra = extra or {}
    words = str(extra.get(ALLOWED, "a text"))
    match kind:
        case msgspec.inspect.Metadata():
            words = _words(kind.type, {**(kind.extra or {}), **extra})
        case msgspec.inspect.VarTupleType() | msgspec.inspect.FrozenSetType():
            words = f"a list, each {_words(kind.item_type)}"
        case msgspec.inspect.EnumType():
            words = _one_of([member.value for member in kind.cls])
        case msgspec.inspect.LiteralType():
            words = _one_of(kind.values)
        case msgspec.inspect.IntType():
            words = f"a whole number from {kind.ge} to {kind.le}" + (
                f" ({extra['unit']})" if "unit" in extra else ""
            )
        case msgspec.inspect.BoolType():
            words = "true or false"
    return words


def _one_of(values: Iterable[object]) -> str:
    return "one of " + ", ".join(f'"{value}"' for value in values)
