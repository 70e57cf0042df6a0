"""A model that wants to write given texts, in whatever spelling it is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as Decoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from captiond.captioners.blip.search import Search
from captiond.captioners.logits import BannedTokens
from captiond.captioners.sequences import SpecialTokens
from captiond.captioners.spelling import MOST_PIECES, banned_sequences, words_of
from captiond.jobs import Generation

BAD_CAPTIONS = Path(__file__).parent / "data" / "bad_captions.txt"
PAD, UNKNOWN, END, BEGIN = range(4)
SPECIAL = ("[PAD]", "[UNK]", "[SEP]", "[DEC]")
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789-'\"()$%#/:;,.?"
PIECES = ("ara", "ar", "blur", "amp", "##fed", "##fe", "##ffe", "##raf", "##ed", "##ban", "##lis")
INVENTED = ("ara", "arra", "blury", "rayb", "ampl")  # how words begin that are no piece
WANTED, SKIPPED, UNWANTED = 100.0, 50.0, -50.0  # scores of tokens


class BadCaption(NamedTuple):
    """A caption that went wrong, and the caption that it should become, if it has one."""

    kind: str
    text: str
    better: str


def bad_captions(kind: str) -> list[BadCaption]:
    """Return the captions of one kind."""
    found = []
    for line in BAD_CAPTIONS.read_text("utf-8").splitlines():
        name, colon, rest = line.partition(": ")
        if colon and name == kind:
            text, _, better = rest.partition(" => ")
            found.append(BadCaption(kind, text, better))
    return found


def parrot_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose words are those that are not invented, and pieces of all others."""
    words = {word for text in texts for word in text.split() if word.isalpha()}
    plain = sorted(word for word in words if not word.startswith(INVENTED))
    pieces = [*SPECIAL, *CHARACTERS, *(f"##{each}" for each in CHARACTERS), *PIECES, *plain]
    numbered = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(numbered, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.decoder = Decoder()
    tokenizer.add_special_tokens([*SPECIAL])
    return tokenizer


@dataclass(frozen=True, slots=True)
class Spoken:
    """How far a text has been written: the next word, and what is missing of the last one."""

    words: tuple[str, ...]
    rest: str = ""
    pieces: int = 0  # of the last word so far

    def scored(self, piece: str) -> float:
        """Return how much the parrot wants a piece."""
        if self.continues(piece):
            return WANTED + len(piece)
        if not self.rest and self.words and begins(self.words[0], piece):
            return WANTED + len(piece)
        if piece == "[SEP]":
            return WANTED if not (self.rest or self.words) else UNWANTED + 1
        if piece in SPECIAL:
            return 10 * UNWANTED
        later = (number for number, word in enumerate(self.words) if begins(word, piece))
        return SKIPPED - next(later, SKIPPED - UNWANTED)

    def continues(self, piece: str) -> bool:
        """Return whether a piece is the next one of a word."""
        fits = piece.startswith("##") and self.rest.startswith(piece[2:])
        return fits and 0 < self.pieces < MOST_PIECES

    def after(self, piece: str) -> "Spoken":
        """Return what is missing once a piece is written."""
        if piece.startswith("##"):
            return replace(self, rest=self.rest.removeprefix(piece[2:]), pieces=self.pieces + 1)
        for number, word in enumerate(self.words):
            if begins(word, piece):
                return Spoken(self.words[number + 1 :], word.removeprefix(piece), 1)
        return self


def begins(word: str, piece: str) -> bool:
    """Return whether the parrot begins a word with a piece. Only what it invents it can spell."""
    return word.startswith(piece) if word.startswith(INVENTED) else word == piece


class ParrotState:
    """The state of a batch, one row for each text that is written."""

    def __init__(self, pieces: Mapping[int, str], rows: list[Spoken]) -> None:
        self._pieces, self._rows = pieces, rows
        self._count = 1  # rows of an image

    def logits(self) -> Tensor:
        scores = [[row.scored(piece) for piece in self._pieces.values()] for row in self._rows]
        return torch.tensor(scores)

    def step(self, tokens: Tensor) -> Tensor:
        self._count = tokens.shape[1]
        written = zip(self._rows, tokens.flatten().tolist(), strict=True)
        self._rows = [row.after(self._pieces[token]) for row, token in written]
        return self.logits()

    def select_images(self, images: Tensor) -> None:
        firsts = images[:, None] * self._count + torch.arange(self._count)
        self.select_rows(firsts.flatten())

    def select_rows(self, rows: Tensor) -> None:
        count = len(rows) // len(self._rows) if len(rows) > len(self._rows) else 1
        wide = [row for row in self._rows for _ in range(count)]
        self._rows = [wide[row] for row in rows.tolist()]


class Parrot:
    """An encoder and decoder as `Search` needs it. An image is the number of its text."""

    positions = 512
    shrink_below = 0.0

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        pieces = sorted((number, piece) for piece, number in tokenizer.get_vocab().items())
        self._pieces = dict(pieces)
        self._texts = [Spoken(tuple(words_of(text, tokenizer))) for text in texts]

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels

    def prefill(
        self, features: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[ParrotState, Tensor]:
        rows = [self._texts[number] for number in features.flatten().tolist()]
        logits = ParrotState(self._pieces, rows).logits()
        return ParrotState(self._pieces, [row for row in rows for _ in range(beams)]), logits

    def release_buffers(self) -> None:
        pass


def parroted(texts: Sequence[str], phrases: Sequence[str], generation: Generation) -> list[str]:
    """Return what the search makes of a model that wants to write these texts."""
    tokenizer = parrot_tokenizer(texts)
    sequences = banned_sequences(phrases, tokenizer)
    bans = BannedTokens.on(torch.device("cpu"), sequences, tokenizer.get_vocab_size())
    search = Search(Parrot(texts, tokenizer), SpecialTokens(BEGIN, END, PAD))
    images = torch.arange(len(texts))[:, None]
    found = search(images, torch.tensor([BEGIN]), generation, bans)
    written: list[str] = tokenizer.decode_batch(found.tokens[:, 0].tolist())
    return written
