"""XML with the place of every element in the bytes that it came from.

expat of the standard library and not lxml: a change that leaves every other byte alone needs the byte where an
element begins, and lxml keeps lines only.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self
from xml.parsers import expat

from tapbond.errors import TapbondError

SIZE_MAX = 1 << 24
"""Bytes; a domain has some thousand."""
DEPTH_MAX = 200
WRAP = b"<fragment>", b"</fragment>"
"""Put around what has several roots, on the same line, so that lines stay what they are."""
JUNK_AFTER_ROOT = expat.errors.codes[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]
ATTRIBUTE = re.compile(rb"""\s([^\s=<>/"']+)\s*=\s*("[^"]*"|'[^']*')""")
START_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
BLANKS_BEFORE = re.compile(rb"(?:\r?\n)?[ \t]*\Z")
ASCII_BASED = re.compile(r"utf-?8|us-ascii|iso-8859-\d+|windows-125\d", re.IGNORECASE)


class XmlError(TapbondError):
    """What should be a domain's XML cannot be used; the text names the line."""


@dataclass(eq=False)
class Element:
    """One element. Offsets are in bytes of the source."""

    tag: str
    attributes: dict[str, str]
    line: int
    """From 1."""
    start: int
    """Of its ``<``."""
    inside: int
    """After its start tag."""
    parent: "Element | None" = None
    children: "list[Element]" = field(default_factory=list)
    close: int = 0
    """Of its end tag; of its own start where it has none."""
    end: int = 0
    """After all of it."""

    @property
    def empty_tag(self) -> bool:
        """Whether it is written ``<tag/>``."""
        return self.close == self.start

    def child(self, tag: str) -> "Element | None":
        """Return the first child of this name."""
        return next((child for child in self.children if child.tag == tag), None)

    def value(self, tag: str, attribute: str) -> str | None:
        """Return an attribute of the first child of this name."""
        child = self.child(tag)
        return None if child is None else child.attributes.get(attribute)

    def walk(self) -> Iterator["Element"]:
        """Yield it and all that is in it, in the order of the source."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)


@dataclass(frozen=True)
class Edit:
    """Replace the bytes from ``start`` to ``end`` with others."""

    start: int
    end: int
    text: bytes


class Source:
    """A document, or a fragment with several roots as ``virsh attach-device`` files and manuals have them.

    Args:
        data: its bytes.
        name: of the file, for messages.

    Raises:
        XmlError: it is not well-formed, too large, too deep, or has a document type.
    """

    def __init__(self, data: bytes, name: str = "domain") -> None:
        self.data = data
        self.name = name
        self.encoding = "UTF-8"
        if len(data) > SIZE_MAX:
            raise XmlError(f"{name}: more than {SIZE_MAX >> 20} MiB: not a domain")
        try:
            self.root = self._parse(wrapped=False)
        except expat.ExpatError as error:
            try:
                if error.code != JUNK_AFTER_ROOT:
                    raise
                self.root = self._parse(wrapped=True)
            except expat.ExpatError as wrong:
                reason = expat.errors.messages[wrong.code]
                raise XmlError(f"{name}:{wrong.lineno}: not well-formed XML: {reason}") from error

    def elements(self, *tags: str) -> list[Element]:
        """Return all elements of these names in the order of the source."""
        return [element for element in self.root.walk() if element.tag in tags]

    def edited(self, *edits: Edit) -> Self:
        """Return it with changes that do not overlap."""
        data = self.data
        for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
            data = data[: edit.start] + edit.text + data[edit.end :]
        return type(self)(data, self.name)

    def insert(self, parent: Element, text: str) -> Edit:
        """Return the edit that puts a new last child into an element, indented as its sisters are."""
        if not ASCII_BASED.fullmatch(self.encoding):
            raise XmlError(f"{self.name}:1: encoding {self.encoding} can be checked but not changed (use UTF-8)")
        data = text.encode("ascii")
        if parent.children:
            return Edit(
                parent.children[-1].end, parent.children[-1].end, self._blanks(parent.children[0].start) + data
            )
        blanks = self._blanks(parent.start)
        inner = blanks + b"  " if blanks else b""
        if parent.empty_tag:
            closing = blanks + f"</{parent.tag}>".encode(self.encoding)
            head = self.data[parent.start : parent.end - 2].rstrip()
            return Edit(parent.start, parent.end, head + b">" + inner + data + closing)
        return Edit(parent.inside, parent.inside, inner + data)

    def attribute(self, element: Element, name: str, value: str) -> Edit:
        """Return the edit that gives an attribute a value; quotes and blanks around it stay."""
        tag = self.data[element.start : element.inside]
        for found in ATTRIBUTE.finditer(tag):
            if found[1].decode(self.encoding, "replace") == name:
                start, end = (element.start + place for place in found.span(2))
                return Edit(start + 1, end - 1, value.encode("ascii"))
        place = element.start + len(tag.removesuffix(b">").removesuffix(b"/").rstrip())
        return Edit(place, place, f" {name}='{value}'".encode("ascii"))

    def _blanks(self, offset: int) -> bytes:
        """Return the line end and the indentation before a place; nothing where something else is before it."""
        found = BLANKS_BEFORE.search(self.data, max(0, offset - 256), offset)
        blanks = found[0] if found else b""
        return blanks if b"\n" in blanks else b"\n" + blanks if not self.data[:offset].strip() else b""

    def _parse(self, *, wrapped: bool) -> Element:
        head, tail = WRAP if wrapped else (b"", b"")
        builder = _Builder(self, len(head))
        builder.parser.Parse(head + self.data + tail, True)
        return builder.root


class _Builder:
    """Makes Elements of expat's events."""

    def __init__(self, source: Source, ahead: int) -> None:
        self._source = source
        self._ahead = ahead
        """Bytes before the source in what expat reads."""
        self.root = Element("", {}, 1, 0, 0)
        self._open = [self.root]
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._finish
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.XmlDeclHandler = self._declaration

    def _place(self) -> int:
        return self.parser.CurrentByteIndex - self._ahead

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self._source.encoding = encoding or "UTF-8"

    def _doctype(self, *_what: object) -> None:
        raise XmlError(
            f"{self._source.name}:{self.parser.CurrentLineNumber}: has a document type, which may define entities:"
            " refused (a domain needs none: remove the <!DOCTYPE>)"
        )

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) > DEPTH_MAX:
            raise XmlError(
                f"{self._source.name}:{self.parser.CurrentLineNumber}: elements nested more than {DEPTH_MAX} deep"
            )
        start, parent = self._place(), self._open[-1]
        found = START_TAG.match(self._source.data, max(start, 0))
        inside = found.end() if found else start
        element = Element(tag, attributes, self.parser.CurrentLineNumber, start, inside, parent)
        parent.children.append(element)
        self._open.append(element)

    def _finish(self, _tag: str) -> None:
        element = self._open.pop()
        if self._source.data[element.inside - 2 : element.inside] == b"/>":
            element.close, element.end = element.start, element.inside
        else:
            element.close = self._place()
            element.end = self._source.data.find(b">", element.close) + 1
