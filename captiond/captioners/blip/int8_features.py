"""Image features in 8-bit integers, to which absorbed cross-attention attends (`cross`).

A token step reads the features of every image in every layer. As integers they take a quarter of
the memory of fp32, so that they stay in the caches, and their products are faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captiond.captioners.linear import Int8Linear, quantize_probabilities, quantize_rows


@dataclass(frozen=True, slots=True)
class Int8Features:
    """The features of each image separately, packed for both products of attention."""

    images: Sequence["Int8Image"]

    @property
    def memory(self) -> Sequence[Tensor]:
        return ()

    def __len__(self) -> int:
        return len(self.images)

    def attend(self, query: Tensor) -> Tensor:
        """Return softmax(Q Fᵀ) F of each image, for queries [images, rows, feature width]."""
        rows = quantize_rows(query)
        images = list(zip(self.images, rows.integers.unbind(), strict=True))
        scores = torch.stack([image.scores.product(row, rows.zero) for image, row in images])
        shares = quantize_probabilities(scores.mul_(rows.scales).softmax(-1))
        images = list(zip(self.images, shares.integers.unbind(), strict=True))
        sums = torch.stack([image.sums.product(row, shares.zero) for image, row in images])
        return sums.mul_(shares.scales).to(query.dtype)

    def select(self, images: Tensor) -> "Int8Features":
        return Int8Features([self.images[image] for image in images.tolist()])

    def first(self, images: int) -> "Int8Features":
        return Int8Features(self.images[:images])


class Int8Image:
    """The features of one image [patches, feature width]."""

    def __init__(self, features: Tensor) -> None:
        features = features.float()
        patches, width = features.shape
        self.scores = Int8Linear(features, features.new_zeros(patches))
        self.sums = Int8Linear(features.t().contiguous(), features.new_zeros(width))
