"""The gold set of tags, and how well a tagger does on it, rule by rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.tagging.lexicon import Lexicon
from captiond.tagging.tagger import Tagger
from captiond.tags import Kind, Tag

RULES = {"phrases": (Kind.PHRASE,), "nouns": (Kind.NOUN,), "all": (Kind.PHRASE, Kind.NOUN)}


@dataclass(frozen=True, slots=True)
class Gold:
    """A caption and the tags that each rule calls for."""

    caption: str
    tags: dict[Kind, frozenset[str]]

    def of(self, kinds: Sequence[Kind]) -> frozenset[str]:
        return frozenset().union(*(self.tags[kind] for kind in kinds))


@dataclass(slots=True)
class Score:
    """Counts of tags; the shares are 0 to 1."""

    right: int = 0
    found: int = 0
    gold: int = 0

    def add(self, found: frozenset[str], gold: frozenset[str]) -> None:
        self.right += len(found & gold)
        self.found += len(found)
        self.gold += len(gold)

    @property
    def precision(self) -> float:
        return self.right / self.found

    @property
    def recall(self) -> float:
        return self.right / self.gold

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.found + self.gold)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A caption whose tags are not those of the gold set."""

    caption: str
    too_many: frozenset[str]
    missing: frozenset[str]


@dataclass(slots=True)
class Report:
    """A tagger on a half of the gold set.

    `lemmas` counts the nouns whose tag is not a word of the caption ("mice"): those found, of all.
    `known` and `named` count the nouns of the gold set that have a category, and one but *other*.
    """

    scores: dict[str, Score] = field(default_factory=lambda: {rule: Score() for rule in RULES})
    mistakes: list[Mistake] = field(default_factory=list)
    lemmas: tuple[int, int] = (0, 0)
    nouns: int = 0
    known: int = 0
    named: int = 0


def read_gold(path: Path) -> Iterator[Gold]:
    """The captions of a file of `caption | tags of phrases | tags of nouns` lines."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            caption, phrases, nouns = (part.strip() for part in f"{line} ".split(" | "))
            yield Gold(caption, {Kind.PHRASE: _listed(phrases), Kind.NOUN: _listed(nouns)})


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split(", ")) if text else frozenset()


def report(tagger: Tagger, lexicon: Lexicon, gold: Sequence[Gold]) -> Report:
    """Run a tagger over a half of the gold set."""
    made = Report()
    for one, found in zip(gold, tagger.tag([one.caption for one in gold]), strict=True):
        for rule, kinds in RULES.items():
            made.scores[rule].add(_texts(found, kinds), one.of(kinds))
        _note_mistake(made, one, _texts(found, RULES["all"]))
        _note_lemmas(made, one, _texts(found, RULES["nouns"]))
        _note_categories(made, one, lexicon)
    return made


def _texts(found: tuple[Tag, ...], kinds: Sequence[Kind]) -> frozenset[str]:
    return frozenset(tag.tag for tag in found if tag.kind in kinds)


def _note_mistake(made: Report, one: Gold, found: frozenset[str]) -> None:
    gold = one.of(RULES["all"])
    if found != gold:
        made.mistakes.append(Mistake(one.caption, found - gold, gold - found))


def _note_lemmas(made: Report, one: Gold, found: frozenset[str]) -> None:
    words = set(one.caption.lower().replace("'s", "").replace("-", " ").split())
    inflected = {noun for noun in one.tags[Kind.NOUN] if noun not in words}
    right, all_ = made.lemmas
    made.lemmas = (right + len(inflected & found), all_ + len(inflected))


def _note_categories(made: Report, one: Gold, lexicon: Lexicon) -> None:
    categories = [lexicon.category([noun]) for noun in one.tags[Kind.NOUN]]
    made.nouns += len(categories)
    made.known += sum(category is not None for category in categories)
    made.named += sum(category not in {None, "other"} for category in categories)
