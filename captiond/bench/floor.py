"""The least time that captions can take: the model's arithmetic over what the machine can do.

Counted are the matrix products of BLIP (Li et al., 2022) and what a token step must read from
memory. Left out are norms, softmax, activations, the attention of a text to its own few tokens, and
every step's start, so that no implementation in the same precision is quicker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a BLIP model; `inner` is the width between the two layers of an MLP."""

    side: int
    patch: int
    vision_width: int
    vision_inner: int
    vision_layers: int
    text_width: int
    text_inner: int
    text_layers: int
    text_heads: int
    seen_width: int  # of what the text's cross-attention looks at
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """The shape that a checkpoint's config.json describes."""
        vision, text = config["vision_config"], config["text_config"]
        return cls(
            side=vision["image_size"],
            patch=vision["patch_size"],
            vision_width=vision["hidden_size"],
            vision_inner=vision["intermediate_size"],
            vision_layers=vision["num_hidden_layers"],
            text_width=text["hidden_size"],
            text_inner=text["intermediate_size"],
            text_layers=text["num_hidden_layers"],
            text_heads=text["num_attention_heads"],
            seen_width=text["encoder_hidden_size"],
            vocabulary=text["vocab_size"],
        )

    @property
    def patches(self) -> int:
        return (self.side // self.patch) ** 2

    @property
    def seen(self) -> int:
        """What an image becomes: its patches, and one more for all of it."""
        return self.patches + 1


@dataclass(frozen=True, slots=True)
class Cross:
    """The cross-attention, done one way (`captioners.blip.cross`)."""

    image: int  # FLOP an image
    token: int  # FLOP a new token
    weights: int  # numbers that a token step reads once a batch
    keys: int  # numbers that it reads for each image


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A model's work, in FLOP: a multiplication and an addition are two."""

    vision: int  # an image
    token: int  # a new token, but for the cross-attention
    weights: int  # numbers that a token step reads once a batch
    cross: tuple[Cross, ...]  # the ways that it can be done


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine does at best, a second."""

    flop: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Work:
    """A batch: `tokens` new ones of all its images together, in `steps`."""

    images: int
    tokens: int
    steps: int


def arithmetic(shape: Shape) -> Arithmetic:
    decoder = decoder_weights(shape)
    return Arithmetic(
        vision=vision_flop(shape),
        token=2 * decoder,
        weights=decoder,
        cross=(kept(shape), absorbed(shape)),
    )


def kept(shape: Shape) -> Cross:
    """Keys and values are made of an image once, for each layer its own."""
    keys = 2 * shape.text_layers * shape.seen * shape.text_width
    return Cross(image=2 * keys * shape.seen_width, token=2 * keys, weights=0, keys=keys)


def absorbed(shape: Shape) -> Cross:
    """Each token's queries, one a head, look at what was seen itself, the same for all layers."""
    weights = 2 * shape.text_layers * shape.text_width * shape.seen_width
    looked = 2 * shape.text_layers * shape.text_heads * shape.seen * shape.seen_width
    keys = shape.seen * shape.seen_width
    return Cross(image=0, token=2 * (weights + looked), weights=weights, keys=keys)


def vision_flop(shape: Shape) -> int:
    width, seen = shape.vision_width, shape.seen
    embedding = shape.patches * CHANNELS * shape.patch**2 * width
    linears = seen * width * (4 * width + 2 * shape.vision_inner)
    attention = 2 * seen**2 * width  # queries by keys, then by values
    return 2 * (embedding + shape.vision_layers * (linears + attention))


def decoder_weights(shape: Shape) -> int:
    """What every token goes through: self-attention, query and output of the other, MLP, head."""
    width = shape.text_width
    layer = 6 * width**2 + 2 * width * shape.text_inner
    return shape.text_layers * layer + width**2 + width * shape.vocabulary


def floor_seconds(model: Arithmetic, rates: Rates, work: Work, number_bytes: int) -> float:
    """The least time of a batch: images first, then its token steps, bound by what is slower."""

    def seconds(cross: Cross) -> float:
        images = work.images * (model.vision + cross.image)
        computed = work.tokens * (model.token + cross.token) / rates.flop
        read = work.steps * (model.weights + cross.weights) + work.tokens * cross.keys
        return images / rates.flop + max(computed, read * number_bytes / rates.bytes)

    return min(seconds(cross) for cross in model.cross)
