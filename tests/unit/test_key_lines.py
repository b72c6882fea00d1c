"""On which line each key of a TOML file is: whatever else stands in it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.config.keylines import key_lines

BARE = st.text("abcXYZ019_-", min_size=1, max_size=8)
KEYS = st.one_of(
    BARE.map(lambda name: (name, name)),
    st.text('ab#=[]{} ".', max_size=6).map(lambda name: (f"'{name}'", name)),
    st.text("ab#=[]{} '.é", max_size=6).map(lambda name: (f'"{name}"', name)),
)
"""As written, and as meant."""
BLANKS = st.sampled_from(["", "\n", "# = [ { \" '\n", "\n\n   # x = 1\n", "\t\n"])
SCALARS = st.sampled_from(
    [
        *("1", "true", "1979-05-27T07:32:00Z", '"a # b = [ "', "'c:\\'", r'"q\" = [ \\"', '""', "''"),
        *(
            '"""\nx = 1\n[a]\n\\""" \n"""',
            "'''\n# y = 2\n'''",
            '""""two" """',
            "''''a'''",
            '"""a""""',
            '"""a"""""',
        ),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n  # ] \n" + ",\n".join(items) + "\n]"),
        st.lists(inner.filter(lambda text: "\n" not in text), max_size=2).map(
            lambda items: "{ " + ", ".join(f"k{number} = {item}" for number, item in enumerate(items)) + " }"
        ),
    ),
    max_leaves=4,
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """A file, and where each key of it is."""
    text, lines = "", {}
    written = draw(st.lists(st.tuples(KEYS, VALUES), max_size=6, unique_by=lambda pair: pair[0][1]))
    for (key, name), value in written:
        text += draw(BLANKS) + draw(st.sampled_from(["", " ", "\t"]))
        lines[name] = text.count("\n") + 1
        between, after = draw(st.sampled_from(["=", " = ", ".sub = "])), draw(st.sampled_from(["", " # z = 1"]))
        text += f"{key}{between}{value}{after}\n"
    for number, opening in enumerate(
        draw(st.lists(st.sampled_from(["[{}]", "[[{}]]", "[ {} . b ]"]), max_size=3))
    ):
        text += draw(BLANKS)
        lines[f"table{number}"] = text.count("\n") + 1
        text += opening.format(f"table{number}") + " # a = 1\ninside = [\n1]\n"
    return text, lines


@given(files())
def test_every_key_is_found_where_it_is(file: tuple[str, dict[str, int]]) -> None:
    text, lines = file
    assert tomllib.loads(text).keys() == lines.keys()
    assert key_lines(text) == lines


@given(st.text("ab=[]{}\"'#\\\n .,", max_size=60))
def test_it_ends_whatever_it_is_given(text: str) -> None:
    key_lines(text)


@pytest.mark.parametrize(
    ("text", "lines"), [("", {}), ('"\\u0061b" = 1', {"ab": 1}), ("a.b = 1\na.c = 2", {"a": 1})]
)
def test_corners(text: str, lines: dict[str, int]) -> None:
    assert key_lines(text) == lines
