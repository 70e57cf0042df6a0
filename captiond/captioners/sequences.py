"""What a search returns: token ids of captions, and how likely they are."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The ids of the special tokens of a model's text."""

    begin: int
    end: int
    pad: int


@dataclass(frozen=True, slots=True)
class Sequences:
    """The captions of a batch as token ids, best first for each image.

    `tokens` [images, captions, length] include the prompt, and are padded after the end token.
    `scores` [images, captions] are the mean log-probabilities of the new tokens, including the end
    token. `token_scores` [images, captions, length] are the log-probabilities of each; those of the
    prompt and the padding are 0. `features` [images, ...] are what the captions were decoded from,
    if the search keeps them.
    """

    tokens: Tensor
    scores: Tensor
    token_scores: Tensor
    features: Tensor | None = None
