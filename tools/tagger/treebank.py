"""Read a Universal Dependencies treebank: CoNLL-U, packed with xz.

The format: https://universaldependencies.org/format.html
"""

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.tagger.sentences import Sentence, Token

# What the lemmatizer and the noun phrases ask of a word's morphology, and no more: every further
# feature splits the labels and costs accuracy on the part of speech.
KEPT_FEATURES = {
    "NOUN": {"Number=Sing", "Number=Plur", "Number=Ptan"},
    "VERB": {"VerbForm=Inf", "VerbForm=Part"},
    "ADJ": {"Degree=Pos", "Degree=Cmp", "Degree=Sup"},
}


def read_treebank(path: Path) -> Iterator[Sentence]:
    """The sentences of a `.conllu.xz` file, in its order."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for block in _blocks(lines):
            yield tuple(_tokens(block))


def _blocks(lines: Iterable[str]) -> Iterator[list[list[str]]]:
    """The rows of each sentence, split into their ten columns."""
    rows: list[list[str]] = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            rows.append(line.rstrip("\n").split("\t"))
        elif rows and not line.strip():
            yield rows
            rows = []
    if rows:
        yield rows


def _tokens(rows: list[list[str]]) -> Iterator[Token]:
    """Words alone: a contraction's row (`3-4`) only says whether a space follows its last word."""
    joined_until, space_after_joined = 0, True
    for index, form, lemma, pos, _, feats, *_, misc in rows:
        if "." in index:  # an empty node of the enhanced graph
            continue
        space = "SpaceAfter=No" not in misc
        if "-" in index:
            joined_until, space_after_joined = int(index.partition("-")[2]), space
            continue
        number = int(index)
        if number < joined_until:
            space = False
        elif number == joined_until:
            space = space_after_joined
        yield Token(form, pos, lemma, _kept(pos, feats), space)


def _kept(pos: str, feats: str) -> str:
    wanted = KEPT_FEATURES.get(pos, set())
    return "|".join(feat for feat in feats.replace("=Ger", "=Part").split("|") if feat in wanted)
