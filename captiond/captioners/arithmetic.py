"""How much a model must compute and read, which bounds how fast any implementation can be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CrossAttentionCost:
    """The cost of cross-attention, computed in one of several ways."""

    image: int  # FLOP for each image
    token: int  # FLOP for each new token
    weights: int  # numbers that a token step reads once for a whole batch
    keys: int  # numbers that a token step reads for each image


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The cost of a captioner, in FLOP. A multiplication and an addition count as two."""

    vision: int  # FLOP for each image
    token: int  # FLOP for each new token, without cross-attention
    weights: int  # numbers that a token step reads once for a whole batch
    cross: tuple[CrossAttentionCost, ...]  # the ways to compute cross-attention
