"""From a tagged caption to its tags. Pure rules over spaCy's tokens; docs/tags.md has examples.

1. Each noun phrase, lower-cased and lemmatized, without determiners, pronouns, stop words,
   punctuation and one-letter words.
2. Each noun and proper noun on its own, if its lemma has three letters or more.
3. Not the words that say only that there is a picture, or only where something is in it.

And each adjective on its own, for those who ask for them. The tags come by their salience: the
subject's first, then in the order of the caption.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from spacy.tokens import Doc, Span, Token

from captiond.tagging.languages import Language
from captiond.tagging.lexicon import LONGEST, Lexicon
from captiond.tagging.phrases import is_attributive, noun_phrases
from captiond.tagging.synonyms import Synonyms
from captiond.tags import Category, Kind, Tag

RULES_VERSION = 3  # part of the cache's key: a change of the rules makes new tags
NOUNS = frozenset({"NOUN", "PROPN"})
DROPPED = frozenset({"DET", "PRON", "PUNCT", "SPACE", "SYM"})
SHORTEST = 3  # letters of a noun or adjective on its own


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rules know of a language, and of the deployment's wishes."""

    words: Language
    lexicon: Lexicon = field(default_factory=Lexicon)
    synonyms: Synonyms = field(default_factory=Synonyms)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: its span, its head, and those of its tokens that carry meaning."""

    span: Span
    head: Token | None
    meaning: tuple[Token, ...]


def find_tags(doc: Doc, rules: Rules) -> tuple[Tag, ...]:
    """Every tag, by salience; one of the same text, kind and category comes once."""
    phrases = [_phrase(span, rules.words) for span in noun_phrases(doc)]
    beside = {_lemma(token) for token in doc}.union(token.lower_ for token in doc)
    by_place = [(phrase.span.start, _phrase_tags(phrase, rules, beside)) for phrase in phrases]
    subject = _subject(phrases, rules.words)
    if subject:
        by_place.insert(0, by_place.pop(subject))
    covered = {token.i for phrase in phrases for token in phrase.span}
    lonely = [token for token in doc if token.i not in covered]
    found = chain.from_iterable(
        [tags for _, tags in by_place] + [_lone_tags(lonely, rules, beside)]
    )
    unique: dict[tuple[str, Kind], Tag] = {}
    for tag in found:
        if tag.tag not in rules.words.generic:
            unique.setdefault((tag.tag, tag.kind), tag)
    return tuple(unique.values())


def _phrase(span: Span, words: Language) -> Phrase:
    head = _head(span)
    meaning = (token for token in span if _carries_meaning(token, words, is_head=token == head))
    return Phrase(span, head, tuple(meaning))


def _head(span: Span) -> Token | None:
    if span.doc.has_annotation("DEP"):
        return span.root if span.root.pos_ in NOUNS else None
    return next((token for token in reversed(span) if token.pos_ in NOUNS), None)


def _carries_meaning(token: Token, words: Language, *, is_head: bool) -> bool:
    """Whether a token of a phrase is in its tag. A head is, also where it is in the list of stop
    words, as *top* and *show* are in spaCy's: "a black top" is not "black"."""
    if token.pos_ in DROPPED or token.is_punct or (token.is_stop and not is_head):
        return False
    word = _word(token)
    return any(map(str.isalnum, word)) and word not in words.counts


def _subject(phrases: Sequence[Phrase], words: Language) -> int:
    """Which phrase the caption is about: the first, or what that only holds or shows.

    In "a photo of a group of people in a park", it is the people.
    """
    passed = words.containers | words.positions | words.generic
    for number, phrase in enumerate(phrases[:-1]):
        after, doc = phrase.span.end, phrase.span.doc
        holds = phrase.head is not None and _lemma(phrase.head) in passed
        if not holds or after >= len(doc) or doc[after].pos_ != "ADP":
            return number
    return max(0, len(phrases) - 1)


def _phrase_tags(phrase: Phrase, rules: Rules, beside: Collection[str]) -> Iterator[Tag]:
    """The tags of a phrase and of what is in it; the nouns first where the phrase is but a noun."""
    if phrase.head is None or _is_position(phrase, rules.words):
        return
    whole = _whole(phrase, rules, beside)
    parts = [*_nouns(phrase, rules, beside), *_adjectives(phrase.meaning, rules)]
    if whole is None or any(part.tag == whole.tag for part in parts):
        yield from parts
    if whole is not None:
        yield whole
        yield from parts


def _is_position(phrase: Phrase, words: Language) -> bool:
    """Whether a phrase says only where something is: "the left", "the other side".

    "His back" does not: it is somebody's.
    """
    places = all(_lemma(token) in words.positions for token in phrase.meaning)
    return places and not any(map(_possesses, (*_before(phrase.span), *phrase.span)))


def _before(span: Span) -> tuple[Token, ...]:
    return (span.doc[span.start - 1],) if span.start else ()


def _possesses(token: Token) -> bool:
    return token.pos_ == "PRON" or "Yes" in token.morph.get("Poss", [])


def _whole(phrase: Phrase, rules: Rules, beside: Collection[str]) -> Tag | None:
    words = tuple(_joined(phrase.meaning))
    if not words or phrase.head is None:
        return None
    category = _category(phrase.head, phrase.span, rules.lexicon, beside)
    return _tag(words, Kind.PHRASE, _lemma(phrase.head), category, phrase.meaning, rules)


def _joined(tokens: Sequence[Token]) -> Iterator[str]:
    """The words of a phrase. One letter is none, unless a hyphen makes it a part: "t-shirt"."""
    start = ""
    for token in tokens:
        word = _word(token)
        if len(word) > 1:
            yield start + word
            start = ""
        elif token.i + 1 < len(token.doc) and token.nbor().text == "-":
            start = f"{word}-"


def _nouns(phrase: Phrase, rules: Rules, beside: Collection[str]) -> Iterator[Tag]:
    for token in phrase.span:
        lemma = _lemma(token)
        if token.pos_ not in NOUNS or not _is_long_enough(lemma):
            continue
        if token == phrase.head or lemma not in rules.words.positions:
            category = _category(token, phrase.span, rules.lexicon, beside)
            yield _tag((lemma,), Kind.NOUN, lemma, category, (token,), rules)


def _adjectives(tokens: Sequence[Token], rules: Rules) -> Iterator[Tag]:
    """Adjectives, and participles that stand as such: "parked car"; no part of a longer word."""
    for token in tokens:
        is_adjective = token.pos_ == "ADJ" or is_attributive(token)
        if is_adjective and _is_long_enough(token.lower_) and not _is_hyphened(token):
            word = _word(token)
            category = Category.COLOUR if rules.lexicon.colour(word) else Category.OTHER
            yield _tag((word,), Kind.ADJECTIVE, word, category, (token,), rules)


def _lone_tags(tokens: list[Token], rules: Rules, beside: Collection[str]) -> Iterator[Tag]:
    """What stands in no phrase: "the window is open", and nouns that a parser left out."""
    for token in tokens:
        if token.pos_ in NOUNS:
            span = token.doc[token.i : token.i + 1]
            yield from _nouns(Phrase(span, token, (token,)), rules, beside)
        elif token.pos_ == "ADJ" and _carries_meaning(token, rules.words, is_head=False):
            yield from _adjectives([token], rules)


def _tag(
    words: tuple[str, ...],
    kind: Kind,
    lemma: str,
    category: Category | None,
    tokens: Sequence[Token],
    rules: Rules,
) -> Tag:
    """A tag with the deployment's synonyms in it; a new last word brings its own category."""
    said = rules.synonyms.apply(words)
    if said != words:
        category = rules.lexicon.category(said) or category
        lemma = said[-1] if said[-1] != words[-1] else lemma
    end = tokens[-1].idx + len(tokens[-1].text)
    return Tag(" ".join(said), lemma, category or Category.OTHER, kind, tokens[0].idx, end)


def _category(
    token: Token, span: Span, lexicon: Lexicon, beside: Collection[str]
) -> Category | None:
    start = max(span.start, token.i + 1 - LONGEST)
    words = [_word(before) for before in token.doc[start : token.i]]
    return lexicon.category([*words, _lemma(token)], beside)


def _is_long_enough(word: str) -> bool:
    return sum(map(str.isalpha, word)) >= SHORTEST


def _is_hyphened(token: Token) -> bool:
    doc, here = token.doc, token.i
    return any(doc[i].text == "-" for i in (here - 1, here + 1) if 0 <= i < len(doc))


def _lemma(token: Token) -> str:
    """The lemma in lower case; the word itself where the pipeline has no lemmatizer."""
    return (token.lemma_ or token.text).strip().lower()


def _word(token: Token) -> str:
    """The lemma; a participle within a phrase is an adjective, its own lemma: "parked car"."""
    return token.lower_.strip() if token.pos_ == "VERB" else _lemma(token)
