"""Reading a Universal Dependencies treebank in the format CoNLL-U, compressed with xz.

The format is described at https://universaldependencies.org/format.html
"""

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.tagger.sentences import Sentence, Token

# The morphological features that the lemmatizer and the noun phrases need. Every further feature
# would split the labels and lower the accuracy of the parts of speech.
KEPT_FEATURES = {
    "NOUN": {"Number=Sing", "Number=Plur", "Number=Ptan"},
    "VERB": {"VerbForm=Inf", "VerbForm=Part"},
    "ADJ": {"Degree=Pos", "Degree=Cmp", "Degree=Sup"},
}


def read_treebank(path: Path) -> Iterator[Sentence]:
    """Yield the sentences of a `.conllu.xz` file, in the order of the file."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for block in _blocks(lines):
            yield tuple(_tokens(block))


def _blocks(lines: Iterable[str]) -> Iterator[list[list[str]]]:
    """Yield the rows of each sentence, split into their ten columns."""
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
    """Yield the words of a sentence.

    The row of a contraction (`3-4`) only tells whether a space follows its last word.
    """
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
    kept = KEPT_FEATURES.get(pos, set())
    return "|".join(feat for feat in feats.replace("=Ger", "=Part").split("|") if feat in kept)
