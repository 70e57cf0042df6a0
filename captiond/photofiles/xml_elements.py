"""XML as a tree whose elements know where they stand in the text.

A program that writes a parsed document again changes what it did not mean to change: prefixes,
comments, the order of attributes. With the places, text can be inserted or removed instead, and
every other byte stays what it was.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from captiond.photofiles.metadata_errors import MetadataUnreadable

TAG = re.compile(rb"""(?:[^"'>]|"[^"]*"|'[^']*')*>""")
UTF_8 = {"utf-8", "utf8"}
Name = tuple[str, str]  # the URI of the namespace, and the name within it


@dataclass
class Element:
    """An element of a document, with offsets in bytes.

    Its text is `[begin:end]`, its start tag `[begin:inner]`. `inner_end` is where its end tag
    begins. An element without content may have no end tag: then `is_empty_tag` is true, and
    `inner`, `inner_end` and `end` are equal.
    """

    name: Name
    attributes: dict[Name, str]
    begin: int
    inner: int
    is_empty_tag: bool
    inner_end: int = 0
    end: int = 0
    texts: list[str] = field(default_factory=list)
    children: list["Element"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its own text, without that of its children."""
        return "".join(self.texts)

    @property
    def whole_text(self) -> str:
        """Its text and that of everything in it. A file may nest elements thousands of times."""
        texts, waiting = [], [self]
        while waiting:
            element = waiting.pop()
            texts += element.texts
            waiting += reversed(element.children)
        return "".join(texts)

    def find(self, name: Name) -> "Element | None":
        """Return the first child of this name."""
        return next(self.find_all(name), None)

    def find_all(self, name: Name) -> Iterator["Element"]:
        """Yield the children of this name."""
        return (child for child in self.children if child.name == name)


def parse_xml(content: bytes) -> Element:
    """Return the root of a document in UTF-8.

    Raises:
        MetadataUnreadable: it is not well-formed, has a document type, or another encoding.
    """
    if b"\0" in content[:64]:
        raise MetadataUnreadable("it is not in UTF-8")
    builder = TreeBuilder(content)
    parser = expat.ParserCreate("utf-8", "\n")
    parser.StartElementHandler = lambda name, attributes: builder.start(
        name, attributes, parser.CurrentByteIndex
    )
    parser.EndElementHandler = lambda _: builder.end(parser.CurrentByteIndex)
    parser.CharacterDataHandler = builder.add_text
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.XmlDeclHandler = check_encoding
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise MetadataUnreadable(f"it is not well-formed XML: {error}") from error
    assert builder.root is not None  # expat refuses a document without an element
    return builder.root


def refuse_doctype(*_: object) -> None:
    """Refuse a document type. XMP has none, and its entities could make a small file huge."""
    raise MetadataUnreadable("it has a document type, which XMP does not have")


def check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    """Refuse a document that says another encoding: new words would be read in that one."""
    if encoding is not None and encoding.lower() not in UTF_8:
        raise MetadataUnreadable(f"it is not in UTF-8 but in {encoding}")


class TreeBuilder:
    """Builds the tree from the events of a parser."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._open: list[Element] = []
        self.root: Element | None = None

    def start(self, name: str, attributes: dict[str, str], at: int) -> None:
        inner = end_of_tag(self._content, at)
        element = Element(
            split_name(name),
            {split_name(key): value for key, value in attributes.items()},
            at,
            inner,
            self._content[inner - 2 : inner - 1] == b"/",
        )
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, at: int) -> None:
        element = self._open.pop()
        if element.is_empty_tag:
            element.inner_end = element.end = element.inner
        else:
            element.inner_end, element.end = at, end_of_tag(self._content, at)

    def add_text(self, text: str) -> None:
        self._open[-1].texts.append(text)  # a line, an escape: a text may have many of them


def split_name(name: str) -> Name:
    """Return the parts of a name as expat gives it."""
    uri, _, local = name.rpartition("\n")
    return uri, local


def end_of_tag(content: bytes, at: int) -> int:
    """Return where the tag ends that begins at `at`. Values of attributes may contain a `>`."""
    tag = TAG.match(content, at)
    return tag.end() if tag else len(content)
