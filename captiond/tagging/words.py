"""The words of a caption as the rules see them, read once from spaCy's tokens."""

from typing import NamedTuple

from spacy.tokens import Doc, Token

NOUNS = frozenset({"NOUN", "PROPN"})


class Word(NamedTuple):
    """The token `at` a place; `start` and `end` are its characters in the caption.

    `meaning` is what it adds to a tag: its lemma; of a participle, which within a phrase is an
    adjective and its own lemma, the word ("parked car").
    """

    at: int
    text: str
    pos: str
    lemma: str
    meaning: str
    is_stop: bool
    is_punct: bool
    is_participle: bool
    is_possessive: bool
    start: int
    end: int

    @property
    def is_noun(self) -> bool:
        return self.pos in NOUNS


def read_words(doc: Doc) -> list[Word]:
    """The words of a tagged caption, in its order."""
    return [_word(token) for token in doc]


def _word(token: Token) -> Word:
    """Lemmas are in lower case; without a lemmatizer they are the words themselves."""
    text, pos, start = token.text, token.pos_, token.idx
    lemma = (token.lemma_ or text).strip().lower()
    return Word(
        at=token.i,
        text=text,
        pos=pos,
        lemma=lemma,
        meaning=text.strip().lower() if pos == "VERB" else lemma,
        is_stop=token.is_stop,
        is_punct=token.is_punct,
        is_participle=pos == "VERB" and "Part" in token.morph.get("VerbForm", []),
        is_possessive=pos == "PRON" or (pos == "DET" and "Yes" in token.morph.get("Poss", [])),
        start=start,
        end=start + len(text),
    )
