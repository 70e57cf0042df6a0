"""How new words join those that are in a packet already. What a person wrote is never replaced."""

from collections.abc import Mapping
from dataclasses import dataclass

from captiond.photofiles.image_words import (
    NewWords,
    OtherWords,
    described_by,
    folded,
    united,
    without,
)
from captiond.photofiles.xml_elements import Name
from captiond.photofiles.xmp_packet import (
    ALT_TEXT,
    BAG,
    DESCRIPTION,
    EMPTY,
    HIERARCHY,
    OWN_ALT_TEXT,
    OWN_CAPTION,
    OWN_MODEL,
    OWN_TAGS,
    SEQUENCE,
    SUBJECT,
    TAGS_LIST,
    XmpPacket,
)

DESCRIPTION_KEPT, ALT_TEXT_KEPT, TAGS_KEPT = "description", "alt text", "tags"


@dataclass(frozen=True, slots=True)
class Merged:
    """A packet with the new words. `kept` names the fields that were left to what is there."""

    packet: bytes
    kept: tuple[str, ...]


def has_own_words(packet: bytes) -> bool:
    """Return whether captiond has written into this packet before.

    Raises:
        MetadataUnreadable: it is not XMP.
    """
    return bool(packet) and bool(XmpPacket(packet).texts(OWN_MODEL))


def words_in(packet: bytes) -> OtherWords:
    """Return what a person wrote into a packet, as far as other packets could hide it.

    Raises:
        MetadataUnreadable: it is not XMP.
    """
    if not packet:
        return OtherWords()
    xmp = XmpPacket(packet)
    description, own = described_by(xmp.text(DESCRIPTION)), xmp.text(OWN_CAPTION)
    own_paths = xmp.texts(OWN_TAGS)
    return OtherWords(
        "" if description == own else description,
        tuple(without(xmp.texts(SUBJECT), map(leaf, own_paths))),
        tuple(persons_paths(xmp, own_paths)),
    )


def merge(packet: bytes, new: NewWords, other: OtherWords, *, overwrite: bool) -> Merged:
    """Return a packet with the new words. An empty `packet` stands for none.

    `other` is what other fields say that photo programs show only if XMP says nothing. With
    `overwrite`, what captiond wrote before is replaced. Without it, that is kept as well.

    Raises:
        MetadataUnreadable: the packet is not XMP.
    """
    xmp = XmpPacket(packet or EMPTY)
    new = new.writable()
    merger = Merger(xmp, new, other, overwrite)
    alt_texts = {new.language: new.alt_text}
    merger.merge_text(DESCRIPTION, OWN_CAPTION, new.captions, other.description, DESCRIPTION_KEPT)
    merger.merge_text(ALT_TEXT, OWN_ALT_TEXT, alt_texts, "", ALT_TEXT_KEPT)
    merger.merge_tags()
    return Merged(xmp.edited(), tuple(dict.fromkeys(merger.kept)))


class Merger:
    """Decides what becomes of each field of one packet."""

    def __init__(self, xmp: XmpPacket, new: NewWords, other: OtherWords, overwrite: bool) -> None:
        self._xmp = xmp
        self._new = new
        self._other = other
        self._own_paths = xmp.texts(OWN_TAGS)
        self._replaced = self._own_paths if overwrite else []  # values that captiond takes back
        self._overwrite = overwrite
        self.kept: list[str] = []

    def merge_text(
        self, name: Name, own: Name, texts: Mapping[str, str], elsewhere: str, label: str
    ) -> None:
        """Write texts by language into a field, unless a person has written there or `elsewhere`.

        `own` is the field in which captiond notes what it has written into `name`.
        """
        present = self._xmp.texts(name)
        is_own = bool(present) and {*present} == {*self._xmp.texts(own)}
        if (present and not (is_own and self._overwrite)) or (not present and elsewhere):
            self.kept.append(label)
            return
        self._xmp.remove(name)
        written = {language: text for language, text in texts.items() if text}
        if written:
            self._xmp.add_texts(name, written)

    def merge_tags(self) -> None:
        """Unite the tags with those that are there, in each of the three lists, and note them."""
        gone = [leaf(path) for path in self._replaced]
        persons = united(without(self._xmp.texts(SUBJECT), gone), self._other.keywords)
        added = without(self._new.flat, persons)
        subjects = [*self._other.keywords, *self._new.flat]
        self._merge_list(SUBJECT, subjects, gone, BAG)
        self._merge_list(TAGS_LIST, self._tag_paths(persons), slashed(self._replaced), SEQUENCE)
        self._merge_list(HIERARCHY, self._hierarchy(persons), self._replaced, BAG)
        self._note_own(added)

    def _tag_paths(self, persons: list[str]) -> list[str]:
        """Return what digiKam's list must have, which hides the other lists from its readers."""
        paths = united(persons_paths(self._xmp, self._replaced), self._other.paths)
        leaves = [path.rpartition("/")[2] for path in paths]
        flat = without(persons, leaves)
        return [*paths, *flat, *self._unless_filed(self._new.paths("/"), "/", [*leaves, *flat])]

    def _hierarchy(self, persons: list[str]) -> list[str]:
        there = without(self._xmp.texts(HIERARCHY), self._replaced)
        filed = without(self._xmp.texts(TAGS_LIST), slashed(self._replaced))
        leaves = [*map(leaf, there), *(path.rpartition("/")[2] for path in filed)]
        return self._unless_filed(self._new.paths("|"), "|", [*leaves, *persons])

    def _unless_filed(self, paths: list[str], separator: str, leaves: list[str]) -> list[str]:
        """Return the paths whose tag a person has not filed somewhere else."""
        filed = set(map(folded, leaves))
        return [path for path in paths if folded(path.rpartition(separator)[2]) not in filed]

    def _merge_list(self, name: Name, values: list[str], gone: list[str], kind: str) -> None:
        present = self._xmp.texts(name)
        unwanted = set(map(folded, gone)) - set(map(folded, values))
        dropped = [value for value in present if folded(value) in unwanted]
        self._xmp.remove_items(name, dropped)
        new = united((), without(values, present))
        if not self._xmp.extend(name, new, kind):
            self.kept.append(TAGS_KEPT)

    def _note_own(self, added: list[str]) -> None:
        """Note what captiond has written, so that it knows its own words the next time."""
        paths = [path for path in self._new.paths("|") if leaf(path) in added]
        earlier = [] if self._overwrite else self._own_paths
        for name in (OWN_CAPTION, OWN_ALT_TEXT, OWN_TAGS, OWN_MODEL):
            self._xmp.remove(name)
        captions = list(dict.fromkeys(filter(None, self._new.captions.values())))
        if len(captions) > 1:
            self._xmp.add_list(OWN_CAPTION, captions, SEQUENCE)
        else:
            self._xmp.add_text(OWN_CAPTION, self._new.caption)
        self._xmp.add_text(OWN_ALT_TEXT, self._new.alt_text)
        self._xmp.add_list(OWN_TAGS, united(earlier, paths), BAG)
        self._xmp.add_text(OWN_MODEL, self._new.model)


def persons_paths(xmp: XmpPacket, own: list[str]) -> list[str]:
    """Return the tags with their categories that are not captiond's own, in digiKam's form."""
    tags_list = without(xmp.texts(TAGS_LIST), slashed(own))
    return united(tags_list, slashed(without(xmp.texts(HIERARCHY), own)))


def leaf(path: str) -> str:
    """Return the last part of a tag's path, as `cat` of `animal|cat`."""
    return path.rpartition("|")[2]


def slashed(paths: list[str]) -> list[str]:
    """Return paths in digiKam's form."""
    return [path.replace("/", " ").replace("|", "/") for path in paths]
