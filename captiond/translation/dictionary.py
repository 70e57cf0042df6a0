"""Dictionaries that translate tags, and phrases of adjectives and a noun by simple rules.

A line of a file has the English tag, its translation, and what phrases need, with a tab between
them:

    dress	Kleid	n
    red	rot	before m=roter f=rote n=rotes p=rote
    stone	Stein	m before m=steinerner f=steinerne n=steinernes p=steinerne

A noun has a gender: any word, such as m, f, n or p. An adjective stands before or after the noun,
and has a form for each gender whose form is not the translation itself, with _ for a space. A
gender of several letters, such as fp, stands for its first letter if an adjective has no form for
it. A word may be both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from captiond.notation.linefiles import LineFile
from captiond.tags import Tag

FOLDER = Path(__file__).resolve().parent / "dictionaries"
HEDGE = "possibly"  # the entry with which alternative texts are hedged
BEFORE, AFTER = "before", "after"
LONGEST_NOUN, LONGEST_ADJECTIVE = 3, 2  # words


@dataclass(frozen=True, slots=True)
class DictionaryEntry:
    """A translation. A noun has a `gender`, an adjective a `place` and `forms` for genders."""

    text: str
    gender: str = ""
    place: str = ""
    forms: Mapping[str, str] = field(default_factory=dict)

    def form(self, gender: str) -> str:
        """Return the form of an adjective beside a noun of this gender."""
        return self.forms.get(gender) or self.forms.get(gender[:1]) or self.text


@dataclass(frozen=True, slots=True)
class TagDictionary:
    """The translations into one language, by English tags in lower case."""

    entries: Mapping[str, DictionaryEntry] = field(default_factory=dict)

    @property
    def hedge(self) -> str | None:
        """The word that begins an alternative text that may be wrong."""
        entry = self.entries.get(HEDGE)
        return entry.text if entry else None

    def translated(self, tags: Sequence[Tag]) -> tuple[Tag, ...]:
        """Return tags in this language, each text once. Those that are unknown stay in English."""
        first: dict[str, Tag] = {}
        for tag in map(self._translated, tags):
            first.setdefault(tag.tag, tag)
        return tuple(first.values())

    def _translated(self, tag: Tag) -> Tag:
        text = self.translation(tag.tag)
        if text is None:
            return tag
        lemma = self.entries.get(tag.lemma.casefold())
        return replace(tag, tag=text, lemma=lemma.text if lemma else tag.lemma, english=tag.tag)

    def translation(self, text: str) -> str | None:
        """Return the translation of a tag, or None if it is unknown."""
        entry = self.entries.get(text.casefold())
        return entry.text if entry else self._phrase(text.casefold().split())

    def _phrase(self, words: list[str]) -> str | None:
        """Return the translation of adjectives and a noun, or None if one of them is unknown."""
        for start in range(max(1, len(words) - LONGEST_NOUN), len(words)):
            noun = self.entries.get(" ".join(words[start:]))
            if noun and noun.gender:
                adjectives = list(self._adjectives(words[:start]))
                return None if None in adjectives else phrase(noun, filter(None, adjectives))
        return None

    def _adjectives(self, words: list[str]) -> Iterator[DictionaryEntry | None]:
        """Yield the adjectives that words are, the longest first; None if a word is none."""
        start = 0
        while start < len(words):
            for count in range(min(LONGEST_ADJECTIVE, len(words) - start), 0, -1):
                entry = self.entries.get(" ".join(words[start : start + count]))
                if entry and entry.place:
                    yield entry
                    start += count
                    break
            else:
                yield None
                return


def phrase(noun: DictionaryEntry, adjectives: Iterator[DictionaryEntry]) -> str:
    """Return a noun with its adjectives. Of those behind it, the last English one comes first."""
    before: list[str] = []
    after: list[str] = []
    for adjective in adjectives:
        (before if adjective.place == BEFORE else after).append(adjective.form(noun.gender))
    return " ".join((*before, noun.text, *reversed(after)))


def read_dictionary(language: str, own: Path | None = None) -> TagDictionary:
    """Return the dictionary of a language: captiond's, with the lines of a file of an operator.

    A language without a dictionary has an empty one. `pt-br` has that of `pt`.

    Raises:
        SettingsError: the file cannot be read, or a line is wrong.
    """
    shipped = FOLDER / f"{language.partition('-')[0]}.tsv"
    entries = read_entries(shipped) if shipped.is_file() else {}
    return TagDictionary(entries | (read_entries(own) if own else {}))


def read_entries(path: Path) -> dict[str, DictionaryEntry]:
    """Return the lines of a file. What follows a # at the beginning of a line is a comment.

    Raises:
        SettingsError: the file cannot be read, or a line is wrong.
    """
    file = LineFile(path)
    entries: dict[str, DictionaryEntry] = {}
    for number, line in file.lines():
        if line.startswith("#"):
            continue
        cells = [" ".join(cell.split()) for cell in line.split("\t")]
        entry = entry_of(cells)
        if entry is None or cells[0].casefold() in entries:
            raise file.wrong_line(number, problem_of(line, entry))
        entries[cells[0].casefold()] = entry
    return entries


def problem_of(line: str, entry: DictionaryEntry | None) -> str:
    if entry is not None:
        return f"{line.strip()!r}: an earlier line has the same tag"
    return f"{line.strip()!r} is not of the form: red<TAB>rot<TAB>before m=roter f=rote"


def entry_of(cells: list[str]) -> DictionaryEntry | None:
    """Return the entry that the cells of a line make, or None if they make none."""
    if len(cells) not in (2, 3) or not (cells[0] and cells[1]):
        return None
    words = cells[2].split() if len(cells) == 3 else []
    if not words:
        return DictionaryEntry(cells[1])
    gender = "" if words[0] in (BEFORE, AFTER) else words.pop(0)
    place = words.pop(0) if words else ""
    if "=" in gender or place not in ("", BEFORE, AFTER):
        return None
    pairs = [word.partition("=") for word in words]
    forms = {name: form.replace("_", " ") for name, _, form in pairs}
    return DictionaryEntry(cells[1], gender, place, forms) if all(forms.values()) else None
