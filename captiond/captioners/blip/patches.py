"""Patch embeddings: the pixels of each patch, and its place in the image, as a vector."""

from typing import Any

import torch
from torch import Tensor

from captiond.captioners.linear import MakeLinear


class PatchEmbeddings:
    """The embeddings of a vision transformer, made of a checkpoint's weights.

    The weights of its convolution, which moves by whole patches, are those of a linear layer.
    """

    def __init__(self, module: Any, make: MakeLinear) -> None:
        convolution = module.patch_embedding
        self._side: int = convolution.weight.shape[-1]
        weight, bias = convolution.weight.detach(), convolution.bias.detach()
        self._linear = make(weight.flatten(1).clone(), bias.clone(), "none")
        positions = module.position_embedding.detach()[0]
        self._of_class = module.class_embedding.detach()[0] + positions[:1]
        self._of_patches = positions[1:].clone()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return [images, 1 + patches, width] of normalized pixels [images, 3, height, width]."""
        patches = self._linear(self._patches(pixels))
        images, count, width = patches.shape
        hidden = patches.new_empty(images, 1 + count, width)
        hidden[:, :1] = self._of_class
        torch.add(patches, self._of_patches, out=hidden[:, 1:])
        return hidden

    def _patches(self, pixels: Tensor) -> Tensor:
        """Return the pixels of each patch: [images, patches, 3 * side * side]."""
        images, channels, height, width = pixels.shape
        side = self._side
        grid = pixels.view(images, channels, height // side, side, width // side, side)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(images, -1, channels * side * side)
