"""Adjusts the scores of the next token as a request and the settings ask for.

Nothing here waits for the device: what is banned is decided there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from captiond.captioners.spelling import Tokens
from captiond.jobs import Generation

ANY, NONE = -1, -2  # in place of token ids: matches every token; matches no token


@dataclass(frozen=True, slots=True)
class BannedTokens:
    """Sequences of tokens that no text may have, as tensors on a device.

    `prefixes` [prefixes, longest] are the sequences without their last tokens, the shortest first,
    with ANY in front of the shorter ones. What is banned behind prefix n is in row `rows[n + 1]` of
    `banned` [sets, vocabulary]. Its first row is what is banned everywhere: the tokens `alone`.
    """

    sequences: tuple[Tokens, ...]
    prefixes: Tensor
    rows: Tensor
    banned: Tensor
    alone: Tensor

    @classmethod
    def on(
        cls, device: torch.device, sequences: tuple[Tokens, ...], vocabulary: int
    ) -> "BannedTokens":
        """Return these sequences on a device."""
        behind: dict[Tokens, set[int]] = {(): set()}
        for *prefix, last in sequences:
            behind.setdefault(tuple(prefix), set()).add(last)
        prefixes = sorted(behind, key=len)
        sets: dict[frozenset[int], int] = {}
        rows = [sets.setdefault(banned_behind(prefix, behind), len(sets)) for prefix in prefixes]
        longest = len(prefixes[-1])
        padded = [[ANY] * (longest - len(prefix)) + [*prefix] for prefix in prefixes[1:]]
        banned = torch.zeros((len(sets), vocabulary), dtype=torch.bool)
        for tokens, row in sets.items():
            banned[row, [*tokens]] = True
        return cls(
            sequences,
            torch.tensor(padded, dtype=torch.int64, device=device).view(len(padded), longest),
            torch.tensor(rows, device=device),
            banned.to(device),
            torch.tensor([*behind[()]], dtype=torch.int64, device=device),
        )

    def __call__(self, scores: Tensor, texts: Tensor) -> Tensor:
        """Return scores [rows, vocabulary] without what is banned after texts [rows, tokens]."""
        if not len(self.prefixes):
            return self._without_alone(scores)
        longest = self.prefixes.shape[1]
        ends = pad(texts[:, -longest:], (max(0, longest - texts.shape[1]), 0), value=NONE)
        same = (ends[:, None] == self.prefixes) | (self.prefixes == ANY)
        matches = same.all(-1)  # [rows, prefixes]
        if cannot_match(matches):
            return self._without_alone(scores)
        numbers = torch.arange(1, len(self.rows), device=scores.device)
        longest_match = (matches * numbers).amax(1)
        return scores.masked_fill(self.banned[self.rows[longest_match]], -torch.inf)

    def _without_alone(self, scores: Tensor) -> Tensor:
        return scores.index_fill(1, self.alone, -torch.inf) if len(self.alone) else scores


def banned_behind(prefix: Tokens, behind: Mapping[Tokens, set[int]]) -> frozenset[int]:
    """Return the tokens that are banned behind a prefix, also by shorter ones that end it."""
    ends = (prefix[start:] for start in range(len(prefix) + 1))
    return frozenset(token for end in ends for token in behind.get(end, ()))


@dataclass(frozen=True, slots=True)
class LogitsProcessor:
    """Adjusts scores as a request's options ask for."""

    generation: Generation
    prompt_length: int
    end: int  # the id of the end token
    banned: BannedTokens | None = None

    def __call__(self, scores: Tensor, texts: Tensor) -> Tensor:
        """Adjust scores [rows, vocabulary] of the token that follows texts [rows, tokens].

        Tokens that a text already has become less likely (Keskar et al., "CTRL", 2019). Tokens that
        would repeat a sequence of `no_repeat_ngram_size` tokens are impossible (Paulus et al., "A
        Deep Reinforced Model for Abstractive Summarization", 2017), and so are banned ones, and the
        end token before `min_new_tokens`.
        """
        if self.generation.repetition_penalty != 1:
            repeated = scores.gather(1, texts)
            penalty = self.generation.repetition_penalty
            repeated = torch.where(repeated < 0, repeated * penalty, repeated / penalty)
            scores = scores.scatter(1, texts, repeated)
        if 0 < self.generation.no_repeat_ngram_size <= texts.shape[1]:
            scores = without_repeats(scores, texts, self.generation.no_repeat_ngram_size)
        if self.banned is not None:
            scores = self.banned(scores, texts)
        if texts.shape[1] - self.prompt_length < self.generation.min_new_tokens:
            scores = scores.clone()
            scores[:, self.end] = -torch.inf
        return scores


def cannot_match(matches: Tensor) -> bool:
    """Return whether nothing matches, if that is known without waiting for a GPU."""
    return matches.device.type == "cpu" and not matches.any()


def without_repeats(scores: Tensor, texts: Tensor, size: int) -> Tensor:
    """Return scores without tokens that would complete `size` tokens that a text already has."""
    begun = texts[:, texts.shape[1] + 1 - size :]
    sequences = texts.unfold(1, size, 1)  # [rows, sequences, size]
    matches = (sequences[:, :, :-1] == begun[:, None]).all(-1)
    if cannot_match(matches):
        return scores
    return without(scores, sequences[:, :, -1], matches)


def without(scores: Tensor, tokens: Tensor, banned: Tensor) -> Tensor:
    """Return scores in which those of `tokens` [rows, n] are impossible that are `banned`.

    A token may occur several times, so the order in which a device writes must not matter.
    """
    limits = torch.full(tokens.shape, torch.inf, dtype=scores.dtype, device=scores.device)
    limits = limits.masked_fill(banned, -torch.inf)
    return scores.scatter_reduce(1, tokens, limits, "amin")
