"""An XMP packet: what it says, and how captiond adds to it.

XMP is RDF in XML (ISO 16684-1). What captiond does not mean to change stays the same byte for byte.
captiond also notes what it has written itself, under a namespace of its own. So it can write that
anew later, and never takes a person's words for its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from captiond.photofiles.metadata_errors import MetadataUnreadable
from captiond.photofiles.xml_elements import Element, Name, parse_xml

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "urn:captiond:1.0/": "captiond",
}
DC, DIGIKAM, LIGHTROOM, IPTC, OWN = PREFIXES
DESCRIPTION, ALT_TEXT = (DC, "description"), (IPTC, "AltTextAccessibility")
SUBJECT, TAGS_LIST = (DC, "subject"), (DIGIKAM, "TagsList")
HIERARCHY = (LIGHTROOM, "hierarchicalSubject")
OWN_CAPTION, OWN_ALT_TEXT = (OWN, "Caption"), (OWN, "AltText")
OWN_TAGS, OWN_MODEL = (OWN, "Tags"), (OWN, "Model")
ABOUT, VALUE, RESOURCE, NODE = ((RDF, n) for n in ("about", "value", "resource", "Description"))
CONTAINERS = tuple((RDF, kind) for kind in ("Alt", "Bag", "Seq"))
BAG, SEQUENCE = "Bag", "Seq"
DEFAULT_LANGUAGE = "x-default"
ATTRIBUTE = re.compile(rb"\s+([^\s=\"'<>/]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
EMPTY = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="captiond">\n'
    f' <rdf:RDF xmlns:rdf="{RDF}">\n'
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
).encode()


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement of the bytes `[begin:end]`."""

    begin: int
    end: int
    text: bytes = b""


@dataclass
class XmpPacket:
    """A packet, and the edits that are asked for. `edited` applies them.

    Raises:
        MetadataUnreadable: the packet is not XMP.
    """

    content: bytes
    edits: list[Edit] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = parse_xml(self.content)
        rdf = root if root.name == (RDF, "RDF") else root.find((RDF, "RDF"))
        if rdf is None:
            raise MetadataUnreadable("it is XML, but not XMP")
        self._rdf = rdf
        self._subjects = list(rdf.find_all(NODE))

    def elements(self, name: Name) -> list[Element]:
        """Return the elements of a property. A packet should have one at most."""
        return [element for subject in self._subjects for element in subject.find_all(name)]

    def texts(self, name: Name) -> list[str]:
        """Return the values of a property that are not blank."""
        short = (subject.attributes.get(name, "") for subject in self._subjects)
        long = (value_of(item) for element in self.elements(name) for item in items_of(element))
        return [text.strip() for text in (*short, *long) if text.strip()]

    def text(self, name: Name) -> str:
        """Return the first value of a property, empty if there is none."""
        return next(iter(self.texts(name)), "")

    # ------------------------------------------------------------ changes

    def remove(self, name: Name) -> None:
        """Remove a property."""
        for element in self.elements(name):
            self.edits.append(Edit(element.begin, element.end))
        for subject in self._subjects:
            if name in subject.attributes:
                self._remove_attribute(subject, name)

    def _remove_attribute(self, subject: Element, name: Name) -> None:
        start = self.content[subject.begin : subject.inner]
        found = [
            each for each in ATTRIBUTE.finditer(start) if each[1].partition(b":")[0] != b"xmlns"
        ]
        # The parser gives the attributes in the order of the text, without the prefixes.
        place = found[list(subject.attributes).index(name)]
        self.edits.append(Edit(subject.begin + place.start(), subject.begin + place.end()))

    def remove_items(self, name: Name, removed: Iterable[str]) -> None:
        """Remove some values of a list."""
        gone = set(removed)
        for element in self.elements(name):
            for item in items_of(element):
                if item is not element and value_of(item).strip() in gone:
                    self.edits.append(Edit(item.begin, item.end))

    def add_text(self, name: Name, text: str) -> None:
        """Add a property with a plain text."""
        self.added.append(f"<{spelled(name)}>{escape(text)}</{spelled(name)}>")

    def add_texts(self, name: Name, texts: Mapping[str, str]) -> None:
        """Add a property that has a text for each language. The first one is the default as well.

        A language that is not known is "". XMP has the default in front of the languages.
        """
        default = next(iter(texts.values()))
        items = {DEFAULT_LANGUAGE: default, **{code: text for code, text in texts.items() if code}}
        alternatives = "".join(
            f"<rdf:li xml:lang={quoteattr(code)}>{escape(text)}</rdf:li>"
            for code, text in items.items()
        )
        self.added.append(contained(name, "Alt", alternatives))

    def add_list(self, name: Name, values: list[str], kind: str) -> None:
        """Add a property with a list, unless the list is empty."""
        if values:
            self.added.append(contained(name, kind, list_items(values, "rdf:")))

    def extend(self, name: Name, values: Iterable[str], kind: str) -> bool:
        """Add values to a list, which is created if it is not there.

        Return whether that is possible: it is not if the list has a form that XMP does not allow.
        """
        new = list(values)
        if not new:
            return True
        container = next(map(container_of, self.elements(name)), None)
        if container is not None and not container.is_empty_tag:
            prefix = prefix_of(self.content, container)
            text = list_items(new, prefix).encode()
            self.edits.append(Edit(container.inner_end, container.inner_end, text))
            return True
        if self.texts(name):
            return False
        self.remove(name)  # it is there, but empty
        self.add_list(name, new, kind)
        return True

    def edited(self) -> bytes:
        """Return the packet with the edits, and with the added properties at the end."""
        edits = [*self.edits]
        if self.added:
            edits.append(self._addition())
        content = self.content
        # Of two edits at one place, the insertion was asked for first.
        for edit in sorted(edits, key=lambda edit: edit.begin, reverse=True):
            content = content[: edit.begin] + edit.text + content[edit.end :]
        return content

    def _addition(self) -> Edit:
        about = next((s.attributes[ABOUT] for s in self._subjects if ABOUT in s.attributes), "")
        spaces = "".join(f'\n    xmlns:{prefix}="{uri}"' for uri, prefix in PREFIXES.items())
        properties = "".join(f"\n   {each}" for each in self.added)
        block = (
            f'<rdf:Description xmlns:rdf="{RDF}" rdf:about={quoteattr(about)}{spaces}>'
            f"{properties}\n  </rdf:Description>\n"
        )
        rdf = self._rdf
        if not rdf.is_empty_tag:
            return Edit(rdf.inner_end, rdf.inner_end, f" {block} ".encode())
        tag = self.content[rdf.begin : rdf.end]
        name = tag[1:-2].split(maxsplit=1)[0].decode()
        opened = tag[:-2].decode()
        return Edit(rdf.begin, rdf.end, f"{opened}>\n  {block} </{name}>".encode())


def container_of(element: Element) -> Element | None:
    """Return the list in a property."""
    return next((child for child in element.children if child.name in CONTAINERS), None)


def items_of(element: Element) -> list[Element]:
    """Return the items of a property's list, or the property itself if it has no list."""
    container = container_of(element)
    return [element] if container is None else container.children


def value_of(item: Element) -> str:
    """Return the text of an item. If it has qualifiers, it is a structure with a `rdf:value`.

    Of another structure, return all of its text: something is there, which must not be lost.
    """
    for holder in (item, *item.find_all(NODE)):
        if value := holder.find(VALUE):
            return value.text
        if plain := holder.attributes.get(VALUE) or holder.attributes.get(RESOURCE):
            return plain
    return item.whole_text


def prefix_of(content: bytes, element: Element) -> str:
    """Return the prefix of an element's name, with its colon; empty if it has none."""
    tag = content[element.begin + 1 : element.inner].decode()
    name = re.split(r"[\s/>]", tag, maxsplit=1)[0]
    return name.rpartition(":")[0] + ":" if ":" in name else ""


def spelled(name: Name) -> str:
    """Return a property's name with the prefix that captiond writes."""
    return f"{PREFIXES[name[0]]}:{name[1]}"


def contained(name: Name, kind: str, items: str) -> str:
    """Return a property with a list."""
    tag = spelled(name)
    return f"<{tag}><rdf:{kind}>{items}</rdf:{kind}></{tag}>"


def list_items(values: Iterable[str], prefix: str) -> str:
    return "".join(f"<{prefix}li>{escape(value)}</{prefix}li>" for value in values)
