"""From a tagged caption to its tags. Pure rules; docs/tags.md has examples.

1. Each noun phrase, lower-cased and lemmatized, without determiners, pronouns, stop words,
   punctuation and one-letter words.
2. Each noun and proper noun on its own, if its lemma has three letters or more.
3. Not the words that say only that there is a picture, or only where something is in it.

And each adjective on its own, for those who ask for them. The tags come by their salience: the
subject's first, then in the order of the caption.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from spacy.tokens import Doc

from captiond.tagging.languages import Language
from captiond.tagging.lexicon import LONGEST, Lexicon
from captiond.tagging.phrases import Phrase, is_attributive, noun_phrases
from captiond.tagging.synonyms import Synonyms
from captiond.tagging.words import Word, read_words
from captiond.tags import Category, Kind, Tag

RULES_VERSION = 3  # part of the cache's key: a change of the rules makes new tags
DROPPED = frozenset({"DET", "PRON", "PUNCT", "SPACE", "SYM"})
SHORTEST = 3  # letters of a noun or adjective on its own


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rules know of a language, and of the deployment's wishes."""

    words: Language
    lexicon: Lexicon = field(default_factory=Lexicon)
    synonyms: Synonyms = field(default_factory=Synonyms)


def find_tags(doc: Doc, rules: Rules) -> tuple[Tag, ...]:
    """Every tag, by salience; one of the same text and kind comes once."""
    caption = Caption(doc, rules)
    unique: dict[tuple[str, Kind], Tag] = {}
    for tag in caption.tags():
        if tag.tag not in rules.words.generic:
            unique.setdefault((tag.tag, tag.kind), tag)
    return tuple(unique.values())


class Caption:
    """The words and phrases of one caption, and the rules for it."""

    def __init__(self, doc: Doc, rules: Rules) -> None:
        self._rules = rules
        self._words = read_words(doc)
        self._phrases = list(noun_phrases(doc, self._words))
        self._beside = {word.lemma for word in self._words}
        self._beside.update(word.meaning for word in self._words)

    def tags(self) -> Iterator[Tag]:
        subject = self._subject()
        by_salience = sorted(self._phrases, key=lambda phrase: phrase != subject)
        for phrase in by_salience:
            yield from self._phrase_tags(phrase)
        yield from self._lone_tags()

    def _subject(self) -> Phrase | None:
        """What the caption is about: its first phrase, or what that only holds or shows.

        In "a photo of a group of people in a park", it is the people.
        """
        rules = self._rules.words
        for phrase in self._phrases[:-1]:
            head = None if phrase.head is None else self._words[phrase.head].lemma
            holds = head in rules.containers or head in rules.positions or head in rules.generic
            behind = self._words[phrase.end : phrase.end + 1]
            if not holds or not behind or behind[0].pos != "ADP":
                return phrase
        return self._phrases[-1] if self._phrases else None

    def _phrase_tags(self, phrase: Phrase) -> Iterator[Tag]:
        """A phrase's tag and those of what is in it: these first where it is but one noun."""
        if phrase.head is None:
            return
        words, head = self._words[phrase.start : phrase.end], self._words[phrase.head]
        meaning = [word for word in words if self._carries_meaning(word, is_head=word is head)]
        if self._is_position(phrase, meaning):
            return
        parts = [*self._nouns(words, head), *self._adjectives(meaning)]
        said = tuple(joined(meaning, self._words))
        if not said:
            yield from parts
            return
        category = self._category(head, phrase.start)
        whole = self._tag(said, Kind.PHRASE, head, category, meaning[0].start, meaning[-1].end)
        if any(part.tag == whole.tag for part in parts):
            yield from parts
            yield whole
        else:
            yield whole
            yield from parts

    def _carries_meaning(self, word: Word, *, is_head: bool) -> bool:
        """Whether a word of a phrase is in its tag. A head is, also where it is in the list of stop
        words, as *top* and *show* are in spaCy's: "a black top" is not "black"."""
        if word.pos in DROPPED or word.is_punct or (word.is_stop and not is_head):
            return False
        return word.meaning not in self._rules.words.counts and has_letters(word.meaning)

    def _is_position(self, phrase: Phrase, meaning: Sequence[Word]) -> bool:
        """Whether a phrase says only where something is: "the left", "the other side".

        "His back" does not: it is somebody's.
        """
        if any(word.lemma not in self._rules.words.positions for word in meaning):
            return False
        around = self._words[max(0, phrase.start - 1) : phrase.end]
        return not any(word.is_possessive for word in around)

    def _nouns(self, words: Sequence[Word], head: Word) -> Iterator[Tag]:
        start = words[0].at
        for word in words:
            if word.is_noun and is_long_enough(word.lemma):
                if word is not head and word.lemma in self._rules.words.positions:
                    continue  # "a side table"
                category = self._category(word, start)
                yield self._tag((word.lemma,), Kind.NOUN, word, category, word.start, word.end)

    def _adjectives(self, words: Iterable[Word]) -> Iterator[Tag]:
        """Adjectives, and participles that stand as such: "parked"; no part of a longer word."""
        for word in words:
            if word.pos != "ADJ" and not is_attributive(word, self._words):
                continue
            if is_long_enough(word.meaning) and not self._is_hyphened(word):
                colour = self._rules.lexicon.colour(word.meaning)
                category = Category.COLOUR if colour else Category.OTHER
                said, start, end = (word.meaning,), word.start, word.end
                yield self._tag(said, Kind.ADJECTIVE, word, category, start, end)

    def _lone_tags(self) -> Iterator[Tag]:
        """What stands in no phrase: "the door is open", and nouns that a parser left out."""
        within = {i for phrase in self._phrases for i in range(phrase.start, phrase.end)}
        for word in self._words:
            if word.at in within:
                continue
            if word.is_noun:
                yield from self._nouns([word], word)
            elif word.pos == "ADJ" and self._carries_meaning(word, is_head=False):
                yield from self._adjectives([word])

    def _tag(
        self,
        words: tuple[str, ...],
        kind: Kind,
        head: Word,
        category: Category | None,
        start: int,
        end: int,
    ) -> Tag:
        """A tag with the deployment's synonyms in it; a new last word brings its own category."""
        lemma = head.meaning if kind is Kind.ADJECTIVE else head.lemma
        said = self._rules.synonyms.apply(words)
        if said != words:
            category = self._rules.lexicon.category(said) or category
            lemma = said[-1] if said[-1] != words[-1] else lemma
        return Tag(" ".join(said), lemma, category or Category.OTHER, kind, start, end)

    def _category(self, noun: Word, start: int) -> Category | None:
        """The category of a noun in a phrase that begins at `start`."""
        before = self._words[max(start, noun.at + 1 - LONGEST) : noun.at]
        words = [*(word.meaning for word in before), noun.lemma]
        return self._rules.lexicon.category(words, self._beside)

    def _is_hyphened(self, word: Word) -> bool:
        around = self._words[max(0, word.at - 1) : word.at + 2]
        return any(other.text == "-" for other in around)


def joined(meaning: Sequence[Word], words: Sequence[Word]) -> Iterator[str]:
    """The words of a tag. One letter is none, unless a hyphen makes it a part: "t-shirt"."""
    part = ""
    for word in meaning:
        if len(word.meaning) > 1:
            yield part + word.meaning
            part = ""
        elif word.at + 1 < len(words) and words[word.at + 1].text == "-":
            part = f"{word.meaning}-"


def has_letters(word: str) -> bool:
    return word.isalnum() or any(map(str.isalnum, word))


def is_long_enough(word: str) -> bool:
    return len(word) >= SHORTEST and sum(map(str.isalpha, word)) >= SHORTEST
