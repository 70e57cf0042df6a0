"""Cross-attention of the text decoder: texts attend to the image features, in one of two ways.

`ProjectedContext` computes keys and values of the features once for an image and layer, as the
paper has it. `AbsorbedContext` moves the projections to the query's side: q · (W f + b) is
(Wᵀ q) · f plus a term that is the same for all patches, which softmax cancels; and Σ p (W f + b) is
W (Σ p f) + b. DeepSeek-AI, "DeepSeek-V2", 2024, avoid the keys and values of self-attention so.
The second way multiplies the cost of a token by the number of heads, but an image costs no
computation and no memory. It is faster while an image has fewer tokens than a head is wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from captiond.captioners.blip.attention import MaskedAttention
from captiond.captioners.linear import Linear, MakeLinear, PackedLinear, linear_of

LIKELY_TOKENS = 16  # in a text, including its prompt
Block: TypeAlias = Any  # a module of transformers; nn.Module does not type its parts
KeysValues = tuple[Tensor, Tensor]  # of one layer, each [rows, heads, tokens, head width]


class ImageContext(Protocol):
    """What the texts of a batch attend to: the image features of the batch."""

    @property
    def images(self) -> int: ...

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Return cross-attention of a layer; query and result are
        [images, heads, columns, head width].
        """

    def select(self, images: Tensor) -> "ImageContext":
        """Return the context of these images only, given by their numbers."""


@dataclass(frozen=True, slots=True)
class ProjectedContext:
    """Keys and values of the image features, for each layer."""

    layers: list[KeysValues]
    attention: MaskedAttention

    @property
    def images(self) -> int:
        return len(self.layers[0][0])

    def attend(self, layer: int, query: Tensor) -> Tensor:
        return self.attention(query, *self.layers[layer])

    def select(self, images: Tensor) -> "ProjectedContext":
        return replace(
            self, layers=[(keys[images], values[images]) for keys, values in self.layers]
        )

    def first(self, images: int) -> "ProjectedContext":
        """Return the context of the first images, as views of the same memory."""
        return replace(self, layers=first_rows(self.layers, images))


@dataclass(frozen=True, slots=True)
class AbsorbedWeights:
    """The key and value projections of a layer, split by head and moved to the query's side.

    `from_query` [heads, head width, feature width] includes the scale 1 / √d. `to_value` is
    [heads, feature width, head width].
    """

    from_query: Tensor
    to_value: Tensor
    value_bias: Tensor  # [heads, 1, head width]

    @classmethod
    def of(cls, attention: Block, heads: int) -> "AbsorbedWeights":
        from_query = attention.key.weight.detach().unflatten(0, (heads, -1))
        to_value = attention.value.weight.detach().unflatten(0, (heads, -1)).transpose(1, 2)
        bias = attention.value.bias.detach().view(heads, 1, -1)
        scale = from_query.shape[1] ** -0.5
        return cls(from_query * scale, to_value.contiguous(), bias.clone())


@dataclass(frozen=True, slots=True)
class AbsorbedContext:
    """The image features themselves, one for each image; all layers attend to them."""

    features: Sequence["ImageFeatures"]
    layers: Sequence[AbsorbedWeights]

    @property
    def images(self) -> int:
        return len(self.features)

    def attend(self, layer: int, query: Tensor) -> Tensor:
        images, heads, columns, width = query.shape
        weights = self.layers[layer]
        by_head = query.transpose(0, 1).flatten(1, 2)  # [heads, images * columns, head width]
        query = torch.bmm(by_head, weights.from_query).view(heads, images, columns, -1)
        query = query.transpose(0, 1).reshape(images, heads * columns, -1).contiguous()
        attended = torch.stack(
            [features.attend(one) for features, one in zip(self.features, query, strict=True)]
        )
        attended = attended.view(images, heads, columns, -1).transpose(0, 1).flatten(1, 2)
        attended = torch.baddbmm(weights.value_bias, attended, weights.to_value)
        return attended.view(heads, images, columns, width).transpose(0, 1)

    def select(self, images: Tensor) -> "AbsorbedContext":
        return replace(self, features=[self.features[image] for image in images.tolist()])


class ImageFeatures:
    """The features of one image [patches, feature width], packed for both products."""

    def __init__(self, features: Tensor) -> None:
        self._scores = PackedLinear(features, None)
        self._sums = PackedLinear(features.t().contiguous(), None)

    def attend(self, query: Tensor) -> Tensor:
        """Return softmax(Q Fᵀ) F for a query [rows, feature width]; F are the features."""
        return self._sums(self._scores(query).softmax(-1))


class CrossAttention:
    """The cross-attention of all layers, made of transformers' modules.

    With `absorb`, few texts for each image use `AbsorbedContext`. Keys and values are computed for
    `chunk` images at a time.
    """

    def __init__(
        self,
        layers: Sequence[Block],
        make: MakeLinear,
        attention: MaskedAttention,
        *,
        heads: int,
        chunk: int,
        absorb: bool,
    ) -> None:
        self._head_width = layers[0].key.out_features // heads
        self._absorbed = [AbsorbedWeights.of(layer, heads) for layer in layers] if absorb else []
        self._project: list[Linear] = [linear_of(make, layer.key, layer.value) for layer in layers]
        self._attention, self._heads, self._chunk = attention, heads, chunk
        self._buffer: Tensor | None = None  # for keys and values

    @property
    def capacity(self) -> int:
        """How many images' keys and values fit into the buffer."""
        return 0 if self._buffer is None else self._buffer.shape[2]

    def release_buffer(self) -> None:
        """Release the buffer for keys and values."""
        self._buffer = None

    def context_of(self, features: Tensor, beams: int) -> ImageContext:
        """Return the cheaper context for so many texts for each image.

        `features` are [images, patches, feature width].
        """
        if self._absorbed and beams * LIKELY_TOKENS <= self._head_width:
            return AbsorbedContext([ImageFeatures(image) for image in features], self._absorbed)
        return self.project(features)

    def project(self, features: Tensor, *, capacity: int = 0) -> ProjectedContext:
        """Compute keys and values of image features [images, patches, feature width].

        They are written into a buffer that the next batch uses again, because to allocate that much
        memory takes longer than to fill it. The context has at least `capacity` images; the keys
        and values of images beyond the given ones are undefined.
        """
        images, patches, _ = features.shape
        capacity = max(images, capacity)
        if self._buffer is None or self.capacity < capacity:
            self._buffer = None  # release it before the larger one is allocated
            shape = (len(self._project), 2, capacity, self._heads, patches, self._head_width)
            self._buffer = features.new_zeros(shape)
        filled = self._buffer[:, :, :images]
        for chunk, target in zip(
            torch.split(features, self._chunk), torch.split(filled, self._chunk, 2), strict=True
        ):
            for project, keys_values in zip(self._project, target, strict=True):
                projected = project(chunk).view(len(chunk), patches, 2, self._heads, -1)
                keys_values.copy_(projected.permute(2, 0, 3, 1, 4))
        layers = [(keys, values) for keys, values in self._buffer[:, :, :capacity]]
        return ProjectedContext(layers, self._attention)


def first_rows(layers: list[KeysValues], rows: int) -> list[KeysValues]:
    """Return the first rows of all layers, as views of the same memory."""
    return [(keys[:rows], values[:rows]) for keys, values in layers]
