"""The words of a caption as the tag rules need them, read once from spaCy's tokens."""

from typing import NamedTuple

from captiond.tagging.lexicon import Lexicon
from captiond.tagging.spacy_parts import Doc, Token

NOUNS = frozenset({"NOUN", "PROPN"})


class Word(NamedTuple):
    """The token at index `at` of a caption; it covers the characters from `start` to before `end`.

    `tag_form` is the form that a tag contains. It is the lemma, except for a participle: "parked
    car" keeps "parked".
    """

    at: int
    text: str
    pos: str
    lemma: str
    tag_form: str
    is_stop: bool
    is_punct: bool
    is_participle: bool
    is_possessive: bool
    start: int
    end: int

    @property
    def is_noun(self) -> bool:
        """Whether the word is a noun or a proper noun."""
        return self.pos in NOUNS


def read_words(doc: Doc, lexicon: Lexicon) -> list[Word]:
    """Return the words of an annotated caption, in the caption's order."""
    return [_word(token, lexicon) for token in doc]


def _word(token: Token, lexicon: Lexicon) -> Word:
    """Return a token as a Word. If the pipeline has no lemmatizer, the lemma is the word itself."""
    text, pos, start = token.text, token.pos_, token.idx
    lemma = (token.lemma_ or text).strip().lower()
    if pos in NOUNS:
        lemma = lexicon.lemma(text.lower(), lemma)
    return Word(
        at=token.i,
        text=text,
        pos=pos,
        lemma=lemma,
        tag_form=text.strip().lower() if pos == "VERB" else lemma,
        is_stop=token.is_stop,
        is_punct=token.is_punct,
        is_participle=pos == "VERB" and "Part" in token.morph.get("VerbForm", []),
        is_possessive=pos == "PRON" or (pos == "DET" and "Yes" in token.morph.get("Poss", [])),
        start=start,
        end=start + len(text),
    )
