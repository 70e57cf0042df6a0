"""Words that no caption may have, as the sequences of tokens that would spell them.

A model can spell a word in more ways than its tokenizer does: "arafed" is `ara ##fed` to the
tokenizer of BERT, but `ar ##af ##ed` reads the same.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from tokenizers import Tokenizer

STEM = "*"  # at the end of a phrase: all words that begin so
CONTINUES = "##"  # in front of a piece that does not begin a word
MOST_PIECES = 6  # of a word; the number of spellings doubles with each
Tokens = tuple[int, ...]


class Speller:
    """Spells words in the pieces of a vocabulary, with at most MOST_PIECES of them."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._pieces = sorted(vocabulary)

    def spellings(self, word: str, *, stem: bool = False) -> Iterator[Tokens]:
        """Yield the sequences of tokens that read as a word; with `stem`, as its beginning.

        A word that is a piece by itself is spelled in no other way.
        """
        whole = self._vocabulary.get(word)
        if whole is not None and not stem:
            yield (whole,)
        else:
            yield from self._continued(word, "", MOST_PIECES, stem=stem)

    def _continued(self, rest: str, mark: str, most: int, *, stem: bool) -> Iterator[Tokens]:
        """Yield the spellings of the rest of a word, with at most so many pieces."""
        last = self._beginning_with(mark + rest) if stem else [mark + rest]
        yield from ((self._vocabulary[piece],) for piece in last if piece in self._vocabulary)
        if most == 1:
            return
        for length in range(1, len(rest)):
            piece = self._vocabulary.get(mark + rest[:length])
            if piece is not None:
                others = self._continued(rest[length:], CONTINUES, most - 1, stem=stem)
                yield from ((piece, *tokens) for tokens in others)

    def _beginning_with(self, text: str) -> list[str]:
        start = bisect_left(self._pieces, text)
        end = bisect_left(self._pieces, text + "\U0010ffff")
        return self._pieces[start:end]


def banned_sequences(phrases: Iterable[str], tokenizer: Tokenizer) -> tuple[Tokens, ...]:
    """Return the sequences of tokens that spell one of the phrases.

    A phrase of which the vocabulary cannot spell a word has none.
    """
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    pieces = {piece: id_ for piece, id_ in tokenizer.get_vocab().items() if piece not in special}
    speller = Speller(pieces)
    sequences: dict[Tokens, None] = {}
    for phrase in phrases:
        words = words_of(phrase.removesuffix(STEM), tokenizer)
        stems = [
            phrase.endswith(STEM) and number == len(words) for number in range(1, len(words) + 1)
        ]
        spelled = [
            list(speller.spellings(word, stem=stem))
            for word, stem in zip(words, stems, strict=True)
        ]
        sequences |= dict.fromkeys(sum(parts, ()) for parts in product(*spelled) if parts)
    return tuple(sequences)


def words_of(text: str, tokenizer: Tokenizer) -> list[str]:
    """Return the words and marks that the tokenizer splits a text into, before it cuts them."""
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is None:
        return text.split()
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
