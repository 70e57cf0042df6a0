"""The lexicon, which gives a noun its category.

The files in nouns/ list the nouns. The files in senses/ list the nouns with several categories,
and for each category the words that choose it when they are in the same caption.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.tags import Category

HERE = Path(__file__).resolve().parent
LONGEST = 3  # words in the longest entry, such as "hot air balloon"


@dataclass(frozen=True, slots=True)
class Sense:
    """A noun has this `category` in captions that contain some of `words`."""

    category: Category
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The categories of nouns and of compounds, and the senses of the ambiguous ones.

    `last_words` are the nouns themselves, and the last words of the compounds.
    """

    nouns: Mapping[str, Category] = field(default_factory=dict)
    senses: Mapping[str, tuple[Sense, ...]] = field(default_factory=dict)
    last_words: frozenset[str] = frozenset()

    def lemma(self, noun: str, proposed: str) -> str:
        """Return the lemma of a noun: the noun itself if the lexicon has it, but not `proposed`.

        A lemmatizer takes "pyjamas" for a plural, and "walrus" too if it does not know the word.
        """
        is_known = noun in self.last_words and proposed not in self.last_words
        return noun if is_known else proposed

    def category(self, words: Sequence[str], context: Collection[str] = ()) -> Category | None:
        """Return the category of the noun at the end of `words`, or None if it is unknown.

        `words` are lemmas, and `context` are the lemmas of the whole caption. The longest entry
        at the end of `words` decides: "hot dog" rather than "dog".
        """
        for count in range(min(LONGEST, len(words)), 0, -1):
            noun = " ".join(words[-count:])
            if noun in self.nouns:
                return self._sense(noun, context) or self.nouns[noun]
        return None

    def colour(self, word: str) -> bool:
        """Return whether an adjective names a colour, as "blue" and "light blue" do."""
        senses = (sense.category for sense in self.senses.get(word, ()))
        return self.nouns.get(word) is Category.COLOUR or Category.COLOUR in senses

    def _sense(self, noun: str, context: Collection[str]) -> Category | None:
        senses = self.senses.get(noun)
        if not senses:
            return None
        best = max(senses, key=lambda sense: len(sense.words.intersection(context)))
        return best.category if best.words.intersection(context) else None


def lexicon_files(language: str) -> tuple[Path, Path]:
    """Return the paths of a language's nouns and senses. The files may not exist."""
    return HERE / "nouns" / f"{language}.txt", HERE / "senses" / f"{language}.txt"


def read_lexicon(language: str) -> Lexicon:
    """Return the lexicon of a language; it is empty if the language has no files."""
    nouns_file, senses_file = lexicon_files(language)
    nouns = dict(read_nouns(nouns_file)) if nouns_file.is_file() else {}
    return Lexicon(
        nouns=nouns,
        senses=read_senses(senses_file) if senses_file.is_file() else {},
        last_words=frozenset(noun.rpartition(" ")[2] for noun in nouns),
    )


def read_nouns(path: Path) -> Iterator[tuple[str, Category]]:
    """Yield the entries of a file of `noun = category` lines, in the order of the file."""
    for noun, category in _entries(path):
        yield noun, Category(category)


def read_senses(path: Path) -> dict[str, tuple[Sense, ...]]:
    """Return the senses of each noun in a file of `noun = category: words` lines."""
    senses: dict[str, tuple[Sense, ...]] = {}
    for noun, rest in _entries(path):
        category, _, words = rest.partition(":")
        sense = Sense(Category(category), frozenset(words.split()))
        senses[noun] = (*senses.get(noun, ()), sense)
    return senses


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            noun, _, rest = line.partition(" = ")
            yield noun, rest
