"""An annotated sentence: what the treebank reader and the caption grammar both make."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab


@dataclass(frozen=True, slots=True)
class Token:
    """One word with its universal part of speech, its lemma and the few features that are kept."""

    text: str
    pos: str
    lemma: str
    feats: str = ""
    space: bool = True


Sentence: TypeAlias = tuple[Token, ...]


def text_of(sentence: Sequence[Token]) -> str:
    """The sentence as it is written, spaces where they were."""
    return "".join(token.text + " " * token.space for token in sentence).rstrip(" ")


def caption_style(sentence: Sentence, rng: random.Random) -> Sentence:
    """The sentence as a caption would write it: lower case, and mostly no final stop."""
    lowered = tuple(replace(token, text=token.text.lower()) for token in sentence)
    if len(lowered) > 1 and lowered[-1].pos == "PUNCT" and rng.random() < 0.8:
        return lowered[:-1]
    return lowered


def example(vocab: Vocab, sentence: Sentence) -> Example:
    """A training example on the sentence's own tokens."""
    words = [token.text for token in sentence]
    spaces = [token.space for token in sentence]
    gold = Doc(
        vocab,
        words=words,
        spaces=spaces,
        pos=[token.pos for token in sentence],
        lemmas=[token.lemma for token in sentence],
        morphs=[token.feats for token in sentence],
    )
    return Example(Doc(vocab, words=words, spaces=spaces), gold)
