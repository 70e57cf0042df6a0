"""The rules that make tags of a caption whose words spaCy has annotated.

1. Each noun phrase is a tag: lower-cased and lemmatized, without determiners, pronouns, stop words,
   punctuation and one-letter words.
2. Each noun and proper noun is a tag on its own, if its lemma has three letters or more.
3. Words that say only that there is a picture, or only where something is in it, are not tags.

Each adjective is also a tag on its own; requests and settings ask for these tags by their kind. The
tags come in order of salience: the tags of the caption's subject first, then the others in the
order of the caption. docs/tags.md explains the rules with examples.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from captiond.tagging.languages import LanguageWords
from captiond.tagging.lexicon import LONGEST, Lexicon
from captiond.tagging.phrases import Phrase, is_attributive, noun_phrases
from captiond.tagging.spacy_parts import Doc
from captiond.tagging.synonyms import Synonyms
from captiond.tagging.words import Word, read_words
from captiond.tags import Category, Kind, Tag

# This number is part of the key of a cached caption. Raise it with each change of the rules, so
# that cached captions get new tags.
RULES_VERSION = 4
DROPPED = frozenset({"DET", "PRON", "PUNCT", "SPACE", "SYM"})
SHORTEST = 3  # letters that a noun or an adjective must have to be a tag on its own


@dataclass(frozen=True, slots=True)
class TagRules:
    """What the rules need besides the caption: words of its language, lexicon and synonyms."""

    words: LanguageWords
    lexicon: Lexicon = field(default_factory=Lexicon)
    synonyms: Synonyms = field(default_factory=Synonyms)


def extract_tags(doc: Doc, rules: TagRules) -> tuple[Tag, ...]:
    """Return every tag of a caption, the most salient first.

    Each pair of text and kind comes once.
    """
    unique: dict[tuple[str, Kind], Tag] = {}
    for tag in TagExtractor(doc, rules).tags():
        if tag.tag not in rules.words.generic:
            unique.setdefault((tag.tag, tag.kind), tag)
    return tuple(unique.values())


class TagExtractor:
    """Applies the tag rules to the words and noun phrases of one caption."""

    def __init__(self, doc: Doc, rules: TagRules) -> None:
        self._rules = rules
        self._words = read_words(doc, rules.lexicon)
        self._phrases = list(noun_phrases(doc, self._words))
        self._context = {word.lemma for word in self._words}
        self._context.update(word.tag_form for word in self._words)

    def tags(self) -> Iterator[Tag]:
        """Yield all tags, the most salient first. A text may come more than once."""
        subject = self._subject()
        for phrase in sorted(self._phrases, key=lambda phrase: phrase != subject):
            yield from self._phrase_tags(phrase)
        yield from self._tags_outside_phrases()

    def _subject(self) -> Phrase | None:
        """Return the phrase that the caption is about: the first one that is not a container.

        A container is followed by a preposition and the phrase that it contains or shows: in
        "a photo of a group of people in a park", the subject is "people".
        """
        rules = self._rules.words
        for phrase in self._phrases[:-1]:
            head = None if phrase.head is None else self._words[phrase.head].lemma
            is_container = (
                head in rules.containers or head in rules.positions or head in rules.generic
            )
            following = self._words[phrase.end : phrase.end + 1]
            if not is_container or not following or following[0].pos != "ADP":
                return phrase
        return self._phrases[-1] if self._phrases else None

    def _phrase_tags(self, phrase: Phrase) -> Iterator[Tag]:
        """Yield the tag of a phrase and the tags of the words in it.

        The phrase comes first, unless it consists of one noun: a text that both rules give is then
        reported with the kind `noun`.
        """
        if phrase.head is None:
            return
        words, head = self._words[phrase.start : phrase.end], self._words[phrase.head]
        kept = [word for word in words if self._is_kept(word, is_head=word is head)]
        if self._is_position(phrase, kept):
            return
        parts = [*self._nouns(words, head), *self._adjectives(kept)]
        text = tuple(tag_words(kept, self._words))
        if not text:
            yield from parts
            return
        category = self._category(head, phrase.start)
        whole = self._tag(text, Kind.PHRASE, head, category, kept[0].start, kept[-1].end)
        if any(part.tag == whole.tag for part in parts):
            yield from parts
            yield whole
        else:
            yield whole
            yield from parts

    def _is_kept(self, word: Word, *, is_head: bool) -> bool:
        """Return whether a word of a phrase is kept in the phrase's tag.

        The head is kept even if it is a stop word. spaCy's list of stop words has *top* and *show*,
        but "a black top" must not become "black".
        """
        if word.pos in DROPPED or word.is_punct or (word.is_stop and not is_head):
            return False
        return word.tag_form not in self._rules.words.counts and has_letters(word.tag_form)

    def _is_position(self, phrase: Phrase, kept: Sequence[Word]) -> bool:
        """Return whether a phrase says only where something is: "the left", "the other side".

        A phrase with a possessive is not a position: "his back" is a part of a body.
        """
        if any(word.lemma not in self._rules.words.positions for word in kept):
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
        """Yield a tag for each adjective and for each participle before a noun ("parked").

        Parts of a hyphenated word are left out.
        """
        for word in words:
            if word.pos != "ADJ" and not is_attributive(word, self._words):
                continue
            if is_long_enough(word.tag_form) and not self._is_hyphenated(word):
                colour = self._rules.lexicon.colour(word.tag_form)
                category = Category.COLOUR if colour else Category.OTHER
                text, start, end = (word.tag_form,), word.start, word.end
                yield self._tag(text, Kind.ADJECTIVE, word, category, start, end)

    def _tags_outside_phrases(self) -> Iterator[Tag]:
        """Yield the tags of words that are in no phrase.

        These are adjectives such as *open* in "the door is open", and nouns that the parser put
        into no phrase.
        """
        within = {i for phrase in self._phrases for i in range(phrase.start, phrase.end)}
        for word in self._words:
            if word.at in within:
                continue
            if word.is_noun:
                yield from self._nouns([word], word)
            elif word.pos == "ADJ" and self._is_kept(word, is_head=False):
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
        """Return a tag of `words`, in which the deployment's synonyms have been replaced.

        A synonym that replaces the last word also sets the lemma, and the category if the lexicon
        has one for it.
        """
        lemma = head.tag_form if kind is Kind.ADJECTIVE else head.lemma
        replaced = self._rules.synonyms.apply(words)
        if replaced != words:
            category = self._rules.lexicon.category(replaced) or category
            lemma = replaced[-1] if replaced[-1] != words[-1] else lemma
        return Tag(" ".join(replaced), lemma, category or Category.OTHER, kind, start, end)

    def _category(self, noun: Word, start: int) -> Category | None:
        """Return the category of a noun in a phrase that begins at the word `start`."""
        before = self._words[max(start, noun.at + 1 - LONGEST) : noun.at]
        words = [*(word.tag_form for word in before), noun.lemma]
        return self._rules.lexicon.category(words, self._context)

    def _is_hyphenated(self, word: Word) -> bool:
        around = self._words[max(0, word.at - 1) : word.at + 2]
        return any(other.text == "-" for other in around)


def tag_words(kept: Sequence[Word], words: Sequence[Word]) -> Iterator[str]:
    """Yield the words of a tag, made from the kept words of a phrase.

    A word of one letter is left out, unless a hyphen joins it to the next word: "t-shirt". `words`
    are all words of the caption.
    """
    prefix = ""
    for word in kept:
        if len(word.tag_form) > 1:
            yield prefix + word.tag_form
            prefix = ""
        elif word.at + 1 < len(words) and words[word.at + 1].text == "-":
            prefix = f"{word.tag_form}-"


def has_letters(word: str) -> bool:
    """Return whether a word has at least one letter or digit."""
    return word.isalnum() or any(map(str.isalnum, word))


def is_long_enough(word: str) -> bool:
    """Return whether a word has enough letters to be a tag on its own."""
    return len(word) >= SHORTEST and sum(map(str.isalpha, word)) >= SHORTEST
