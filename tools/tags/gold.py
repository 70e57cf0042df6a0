"""The gold set of tags, and the scores of a tagger on it for each rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.tagging.lexicon import Lexicon
from captiond.tagging.tagger import Tagger
from captiond.tags import Kind, Tag

RULES = {"phrases": (Kind.PHRASE,), "nouns": (Kind.NOUN,), "all": (Kind.PHRASE, Kind.NOUN)}


@dataclass(frozen=True, slots=True)
class Gold:
    """A caption and the correct tags of each rule."""

    caption: str
    tags: dict[Kind, frozenset[str]]

    def of(self, kinds: Sequence[Kind]) -> frozenset[str]:
        return frozenset().union(*(self.tags[kind] for kind in kinds))


@dataclass(slots=True)
class Score:
    """Counts of correct, predicted and gold tags, and the scores that follow, from 0 to 1."""

    correct: int = 0
    predicted: int = 0
    gold: int = 0

    def add(self, predicted: frozenset[str], gold: frozenset[str]) -> None:
        """Count the tags of one caption."""
        self.correct += len(predicted & gold)
        self.predicted += len(predicted)
        self.gold += len(gold)

    @property
    def precision(self) -> float:
        return self.correct / self.predicted

    @property
    def recall(self) -> float:
        return self.correct / self.gold

    @property
    def f1(self) -> float:
        return 2 * self.correct / (self.predicted + self.gold)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A caption for which the tagger returned wrong tags or missed some."""

    caption: str
    wrong: frozenset[str]
    missing: frozenset[str]


@dataclass(slots=True)
class Report:
    """The scores of a tagger on one half of the gold set.

    `lemmas` is about nouns whose lemma is not a word of the caption, such as "mice". It holds how
    many of them are correct, and how many there are. Of the `nouns` in the gold set, `known` have
    a category and `named` have a category other than `other`.
    """

    scores: dict[str, Score] = field(default_factory=lambda: {rule: Score() for rule in RULES})
    mistakes: list[Mistake] = field(default_factory=list)
    lemmas: tuple[int, int] = (0, 0)
    nouns: int = 0
    known: int = 0
    named: int = 0


def read_gold(path: Path) -> Iterator[Gold]:
    """Yield the captions of a file of `caption | tags of phrases | tags of nouns` lines."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            caption, phrases, nouns = (part.strip() for part in f"{line} ".split(" | "))
            yield Gold(caption, {Kind.PHRASE: _listed(phrases), Kind.NOUN: _listed(nouns)})


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split(", ")) if text else frozenset()


def report(tagger: Tagger, lexicon: Lexicon, gold: Sequence[Gold]) -> Report:
    """Run a tagger on one half of the gold set and return its scores."""
    result = Report()
    for one, tags in zip(gold, tagger.tag([one.caption for one in gold]), strict=True):
        for rule, kinds in RULES.items():
            result.scores[rule].add(_texts(tags, kinds), one.of(kinds))
        _note_mistake(result, one, _texts(tags, RULES["all"]))
        _note_lemmas(result, one, _texts(tags, RULES["nouns"]))
        _note_categories(result, one, lexicon)
    return result


def _texts(tags: tuple[Tag, ...], kinds: Sequence[Kind]) -> frozenset[str]:
    return frozenset(tag.tag for tag in tags if tag.kind in kinds)


def _note_mistake(result: Report, one: Gold, predicted: frozenset[str]) -> None:
    gold = one.of(RULES["all"])
    if predicted != gold:
        result.mistakes.append(Mistake(one.caption, predicted - gold, gold - predicted))


def _note_lemmas(result: Report, one: Gold, predicted: frozenset[str]) -> None:
    words = set(one.caption.lower().replace("'s", "").replace("-", " ").split())
    inflected = {noun for noun in one.tags[Kind.NOUN] if noun not in words}
    correct, total = result.lemmas
    result.lemmas = (correct + len(inflected & predicted), total + len(inflected))


def _note_categories(result: Report, one: Gold, lexicon: Lexicon) -> None:
    categories = [lexicon.category([noun]) for noun in one.tags[Kind.NOUN]]
    result.nouns += len(categories)
    result.known += sum(category is not None for category in categories)
    result.named += sum(category not in {None, "other"} for category in categories)
