"""Annotated sentences, which the treebank reader and the caption grammar produce."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab


@dataclass(frozen=True, slots=True)
class Token:
    """One word with its universal part of speech, its lemma and the features that are kept."""

    text: str
    pos: str
    lemma: str
    feats: str = ""
    space: bool = True


Sentence: TypeAlias = tuple[Token, ...]


def text_of(sentence: Sequence[Token]) -> str:
    """Return the text of a sentence, with its original spaces."""
    return "".join(token.text + " " * token.space for token in sentence).rstrip(" ")


def caption_style(sentence: Sentence, rng: random.Random) -> Sentence:
    """Return a sentence in the style of captions: lower case, mostly without a full stop."""
    lowered = tuple(replace(token, text=token.text.lower()) for token in sentence)
    if len(lowered) > 1 and lowered[-1].pos == "PUNCT" and rng.random() < 0.8:
        return lowered[:-1]
    return lowered


def example(vocab: Vocab, sentence: Sentence) -> Example:
    """Return a training example with the tokens of the sentence."""
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
