"""The cost of a BLIP model, counted from its shape.

Counted are the matrix products (Li et al., 2022) and what a token step must read from memory. Left
out are norms, softmax, activations, self-attention of a text to its few tokens, and the launch of
every step. So no implementation in the same precision can be faster than these counts allow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captiond.captioners.arithmetic import Arithmetic, CrossAttentionCost

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class BlipShape:
    """The sizes of a BLIP model. `inner` is the width between the two layers of an MLP."""

    side: int
    patch: int
    vision_width: int
    vision_inner: int
    vision_layers: int
    text_width: int
    text_inner: int
    text_layers: int
    text_heads: int
    feature_width: int  # of the image features that cross-attention attends to
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "BlipShape":
        """Return the shape that a checkpoint's config.json describes."""
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
            feature_width=text["encoder_hidden_size"],
            vocabulary=text["vocab_size"],
        )

    @property
    def patches(self) -> int:
        return (self.side // self.patch) ** 2

    @property
    def features(self) -> int:
        """The number of image features: one for each patch, and one for the whole image."""
        return self.patches + 1


def arithmetic(shape: BlipShape) -> Arithmetic:
    """Return the cost of a model of this shape."""
    weights = decoder_weights(shape)
    return Arithmetic(
        vision=vision_flop(shape),
        token=2 * weights,
        weights=weights,
        cross=(projected(shape), absorbed(shape)),
    )


def projected(shape: BlipShape) -> CrossAttentionCost:
    """Return the cost with keys and values, computed once for an image and layer."""
    keys = 2 * shape.text_layers * shape.features * shape.text_width
    return CrossAttentionCost(
        image=2 * keys * shape.feature_width, token=2 * keys, weights=0, keys=keys
    )


def absorbed(shape: BlipShape) -> CrossAttentionCost:
    """Return the cost without keys and values: each head attends to the features themselves."""
    weights = 2 * shape.text_layers * shape.text_width * shape.feature_width
    attended = 2 * shape.text_layers * shape.text_heads * shape.features * shape.feature_width
    keys = shape.features * shape.feature_width
    return CrossAttentionCost(image=0, token=2 * (weights + attended), weights=weights, keys=keys)


def vision_flop(shape: BlipShape) -> int:
    width, features = shape.vision_width, shape.features
    embedding = shape.patches * CHANNELS * shape.patch**2 * width
    linears = features * width * (4 * width + 2 * shape.vision_inner)
    attention = 2 * features**2 * width  # the product with keys, then with values
    return 2 * (embedding + shape.vision_layers * (linears + attention))


def decoder_weights(shape: BlipShape) -> int:
    """Return the number of weights that every token is multiplied with, without cross-attention's
    key and value projections.
    """
    width = shape.text_width
    layer = 6 * width**2 + 2 * width * shape.text_inner
    return shape.text_layers * layer + width**2 + width * shape.vocabulary
