"""Memory for the keys and values of cross-attention: one buffer for all layers and images.

It is used again by the next batch, because to allocate that much memory takes longer than to fill
it.
"""

from typing import Protocol

from torch import Tensor

from captiond.captioners.fp8 import FP8, to_fp8
from captiond.captioners.linear import Linear, write

KeysValues = tuple[Tensor, Tensor]  # of one layer, each [rows, heads, tokens, head width]


class KeyValueBuffer(Protocol):
    """Keys and values of `capacity` images."""

    capacity: int

    def fill(self, layer: int, begin: int, features: Tensor, project: Linear) -> None:
        """Write the keys and values of features [images, tokens, width], from image `begin` on.

        `project` returns both, side by side.
        """

    def layers(self, images: int) -> list[KeysValues]:
        """Return views of the keys and values of the first images, for each layer."""


class DenseHeads:
    """Memory in which each head of an image is dense, as products on a CPU want it."""

    def __init__(self, like: Tensor, shape: tuple[int, int, int, int, int]) -> None:
        """Allocate memory for `shape`: layers, images, heads, tokens and the width of a head."""
        layers, self.capacity, heads, tokens, width = shape
        self._memory = like.new_zeros((layers, 2, self.capacity, heads, tokens, width))

    def fill(self, layer: int, begin: int, features: Tensor, project: Linear) -> None:
        target = self._memory[layer, :, begin : begin + len(features)]
        _, images, heads, tokens, width = target.shape
        projected = project(features).view(images, tokens, 2, heads, width)
        target.copy_(projected.permute(2, 0, 3, 1, 4))

    def layers(self, images: int) -> list[KeysValues]:
        return [(keys, values) for keys, values in self._memory[:, :, :images]]


class AsProjected:
    """Memory in the order in which the product writes it, so nothing is copied: for a GPU."""

    def __init__(self, like: Tensor, shape: tuple[int, int, int, int, int]) -> None:
        """Allocate memory as `DenseHeads` does."""
        layers, self.capacity, heads, tokens, width = shape
        self._memory = like.new_zeros((layers, self.capacity, tokens, 2, heads, width))

    def fill(self, layer: int, begin: int, features: Tensor, project: Linear) -> None:
        target = self._memory[layer, begin : begin + len(features)]
        write(project, features.flatten(0, 1), target.flatten(0, 1).flatten(1))

    def layers(self, images: int) -> list[KeysValues]:
        views = self._memory[:, :images].permute(0, 3, 1, 4, 2, 5)
        return [(keys, values) for keys, values in views]


class AsFp8(AsProjected):
    """The same memory in FP8, for attention by `fp8.attend`."""

    def __init__(self, like: Tensor, shape: tuple[int, int, int, int, int]) -> None:
        super().__init__(like.new_empty(0, dtype=FP8), shape)

    def fill(self, layer: int, begin: int, features: Tensor, project: Linear) -> None:
        target = self._memory[layer, begin : begin + len(features)]
        to_fp8(project(features), "keys", out=target.flatten(2))


def buffer_for(
    like: Tensor, shape: tuple[int, int, int, int, int], *, in_fp8: bool = False
) -> KeyValueBuffer:
    """Return a buffer for a device; `shape` is as for `DenseHeads`."""
    if in_fp8:
        return AsFp8(like, shape)
    return DenseHeads(like, shape) if like.device.type == "cpu" else AsProjected(like, shape)
