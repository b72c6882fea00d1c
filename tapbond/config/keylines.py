"""On which line of a TOML file each of its keys is: tomllib does not say.

A scan of a text that tomllib has accepted, so it need not know what is wrong: it walks over strings, comments
and brackets (toml.io/en/v1.0.0), and takes down what stands before a ``=`` or in a table's header.
"""

import re

SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
COMMENT = re.compile(r"#[^\n]*")
BLANK = re.compile(r"[ \t]*")
BARE = re.compile(r"[A-Za-z0-9_-]+")
STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # up to two quotation marks may stand before the three that end it
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
OPENING, CLOSING = "[{", "]}"
QUOTES = "\"'"


def key_lines(text: str) -> dict[str, int]:
    """Return the line, from 1, of each key at the top of a file, and of what makes each table there.

    Args:
        text: valid TOML. Of anything else it returns something, and it always ends.
    """
    lines: dict[str, int] = {}
    place, in_table = _skip(SPACE, text, 0), False
    while place < len(text):
        began = place
        if text[place] == "[":
            in_table = True
            place = _skip(BLANK, text, place + text[place : place + 2].count("["))
        key, place = _key(text, place)
        if text[began] == "[" or not in_table:
            lines.setdefault(key, text.count("\n", 0, began) + 1)
        place = _skip(SPACE, text, max(_end(text, place), began + 1))
    return lines


def _key(text: str, place: int) -> tuple[str, int]:
    """Return the first part of a key and where it ends."""
    if found := BARE.match(text, place):
        return found[0], found.end()
    if found := STRING.match(text, place):
        return _unquoted(found[0]), found.end()
    return "", place


def _unquoted(text: str) -> str:
    """Return what a quoted key means; one with an escape stays as it is written, if that cannot be told."""
    if text[0] == "'" or "\\" not in text:
        return text[1:-1]
    import tomllib  # noqa: PLC0415  (a rare case)

    try:
        return next(iter(tomllib.loads(f"{text} = 0")))
    except tomllib.TOMLDecodeError:
        return text[1:-1]


def _end(text: str, place: int) -> int:
    """Return where the rest of a header or of a key and its value ends: a line's end outside brackets."""
    depth = 0
    while place < len(text):
        char = text[place]
        if char in QUOTES and (string := STRING.match(text, place)):
            place = string.end()
            continue
        if char == "\n" and depth <= 0:
            break
        if char == "#":
            place = _skip(COMMENT, text, place)
            continue
        depth += (char in OPENING) - (char in CLOSING)
        place += 1
    return place


def _skip(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place
