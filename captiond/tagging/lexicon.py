"""Which category a noun is of: nouns/, and senses/ where the words beside it decide."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.tags import Category

HERE = Path(__file__).resolve().parent
LONGEST = 3  # words of an entry: "hot air balloon"


@dataclass(frozen=True, slots=True)
class Sense:
    """A noun is of `category` where `words` stand beside it."""

    category: Category
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Nouns, of several words too, with their category; and the senses of those with more."""

    nouns: Mapping[str, Category] = field(default_factory=dict)
    senses: Mapping[str, tuple[Sense, ...]] = field(default_factory=dict)

    def category(self, words: Sequence[str], beside: Collection[str] = ()) -> Category | None:
        """The category of the noun that ends `words`, all lemmas; None if it is not known.

        The longest entry that ends there counts: "hot dog" before "dog". `beside` are the other
        lemmas of the caption.
        """
        for count in range(min(LONGEST, len(words)), 0, -1):
            noun = " ".join(words[-count:])
            if noun in self.nouns:
                return self._sense(noun, beside) or self.nouns[noun]
        return None

    def colour(self, word: str) -> bool:
        """Whether an adjective names a colour: "light blue" is one as "blue" is."""
        senses = (sense.category for sense in self.senses.get(word, ()))
        return self.nouns.get(word) is Category.COLOUR or Category.COLOUR in senses

    def _sense(self, noun: str, beside: Collection[str]) -> Category | None:
        senses = self.senses.get(noun)
        if not senses:
            return None
        best = max(senses, key=lambda sense: len(sense.words.intersection(beside)))
        return best.category if best.words.intersection(beside) else None


def lexicon_files(language: str) -> tuple[Path, Path]:
    """Where the nouns and the senses of a language are, if they are."""
    return HERE / "nouns" / f"{language}.txt", HERE / "senses" / f"{language}.txt"


def read_lexicon(language: str) -> Lexicon:
    """The lexicon of a language; an empty one where there is none."""
    nouns, senses = lexicon_files(language)
    return Lexicon(
        nouns=dict(read_nouns(nouns)) if nouns.is_file() else {},
        senses=read_senses(senses) if senses.is_file() else {},
    )


def read_nouns(path: Path) -> Iterator[tuple[str, Category]]:
    """The entries of a file of `noun = category` lines, in its order."""
    for noun, category in _entries(path):
        yield noun, Category(category)


def read_senses(path: Path) -> dict[str, tuple[Sense, ...]]:
    """The senses in a file of `noun = category: words` lines."""
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
