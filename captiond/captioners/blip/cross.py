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
from torch.nn.functional import scaled_dot_product_attention

from captiond.captioners import fp8
from captiond.captioners.blip.attention import MaskedAttention
from captiond.captioners.blip.int8_features import Int8Features, Int8Image
from captiond.captioners.blip.keys_values import KeysValues, KeyValueBuffer, buffer_for
from captiond.captioners.choices import CrossWay
from captiond.captioners.linear import (
    Inputs,
    Int8Linear,
    MakeLinear,
    PackedLinear,
    has_onednn,
    linear_of,
)

LIKELY_TOKENS = 16  # in a text, including its prompt
Block: TypeAlias = Any  # weights by their names in a checkpoint, as attributes (`weights`)


class ImageContext(Protocol):
    """What the texts of a batch attend to: the image features of the batch."""

    @property
    def images(self) -> int: ...

    @property
    def memory(self) -> Sequence[Tensor]:
        """The tensors that hold it, [images, ...] each; none if they cannot be written to."""

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Return cross-attention of a layer; query and result are
        [images, heads, columns, head width].
        """

    def select(self, images: Tensor) -> "ImageContext":
        """Return the context of these images only, given by their numbers."""

    def first(self, images: int) -> "ImageContext":
        """Return the context of the first images, in the same memory."""


@dataclass(frozen=True, slots=True)
class ProjectedContext:
    """Keys and values of the image features, for each layer."""

    layers: list[KeysValues]
    attention: MaskedAttention

    @property
    def images(self) -> int:
        return len(self.layers[0][0])

    @property
    def memory(self) -> Sequence[Tensor]:
        return [memory for keys_values in self.layers for memory in keys_values]

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
    """The image features themselves, to which all layers attend."""

    features: "Features"
    layers: Sequence[AbsorbedWeights]

    @property
    def images(self) -> int:
        return len(self.features)

    @property
    def memory(self) -> Sequence[Tensor]:
        return self.features.memory

    def attend(self, layer: int, query: Tensor) -> Tensor:
        images, heads, columns, width = query.shape
        weights = self.layers[layer]
        by_head = query.transpose(0, 1).flatten(1, 2)  # [heads, images * columns, head width]
        query = torch.bmm(by_head, weights.from_query).view(heads, images, columns, -1)
        query = query.transpose(0, 1).reshape(images, heads * columns, -1).contiguous()
        attended = self.features.attend(query)
        attended = attended.view(images, heads, columns, -1).transpose(0, 1).flatten(1, 2)
        attended = torch.baddbmm(weights.value_bias, attended, weights.to_value)
        return attended.view(heads, images, columns, width).transpose(0, 1)

    def select(self, images: Tensor) -> "AbsorbedContext":
        return replace(self, features=self.features.select(images))

    def first(self, images: int) -> "AbsorbedContext":
        return replace(self, features=self.features.first(images))


class Features(Protocol):
    """The image features of a batch, as queries attend to them."""

    @property
    def memory(self) -> Sequence[Tensor]:
        """The tensors that hold them, [images, ...] each; none if they cannot be written to."""

    def __len__(self) -> int:
        """Return the number of images."""

    def attend(self, query: Tensor) -> Tensor:
        """Return softmax(Q Fᵀ) F of each image, for queries [images, rows, feature width]."""

    def select(self, images: Tensor) -> "Features":
        """Return the features of these images only, given by their numbers."""

    def first(self, images: int) -> "Features":
        """Return the features of the first images, in the same memory."""


@dataclass(frozen=True, slots=True)
class BatchedFeatures:
    """The features of all images in one tensor [images, patches, feature width].

    A GPU starts two products for the whole batch.
    """

    features: Tensor

    @property
    def memory(self) -> Sequence[Tensor]:
        return (self.features,)

    def __len__(self) -> int:
        return len(self.features)

    def attend(self, query: Tensor) -> Tensor:
        scores = torch.bmm(query, self.features.transpose(1, 2))
        return torch.bmm(scores.softmax(-1), self.features)

    def select(self, images: Tensor) -> "BatchedFeatures":
        return BatchedFeatures(self.features[images])

    def first(self, images: int) -> "BatchedFeatures":
        return BatchedFeatures(self.features[:images])


@dataclass(frozen=True, slots=True)
class PackedFeatures:
    """The features of each image separately, packed for oneDNN."""

    images: Sequence["ImageFeatures"]

    @property
    def memory(self) -> Sequence[Tensor]:
        return ()

    def __len__(self) -> int:
        return len(self.images)

    def attend(self, query: Tensor) -> Tensor:
        return torch.stack(
            [features.attend(rows) for features, rows in zip(self.images, query, strict=True)]
        )

    def select(self, images: Tensor) -> "PackedFeatures":
        return PackedFeatures([self.images[image] for image in images.tolist()])

    def first(self, images: int) -> "PackedFeatures":
        return PackedFeatures(self.images[:images])


class ImageFeatures:
    """The features of one image [patches, feature width], packed for both products."""

    def __init__(self, features: Tensor) -> None:
        self._scores = PackedLinear(features, None)
        self._sums = PackedLinear(features.t().contiguous(), None)

    def attend(self, query: Tensor) -> Tensor:
        """Return softmax(Q Fᵀ) F for a query [rows, feature width]; F are the features."""
        return self._sums(self._scores(query).softmax(-1))


@dataclass(frozen=True, slots=True)
class FusedFeatures:
    """The features of all images in one tensor [images, patches, feature width].

    torch's fused kernel reads the features once for both products, where two calls read them twice.
    It runs in as many threads as it has groups of queries, so a lone image has several groups.
    """

    features: Tensor

    @property
    def memory(self) -> Sequence[Tensor]:
        return ()

    def __len__(self) -> int:
        return len(self.features)

    def attend(self, query: Tensor) -> Tensor:
        images, rows, width = query.shape
        groups = groups_of(rows, torch.get_num_threads() / images)
        keys = self.features[:, None].expand(-1, groups, -1, -1)
        grouped = query.view(images, groups, -1, width)
        return scaled_dot_product_attention(grouped, keys, keys, scale=1.0).flatten(1, 2)

    def select(self, images: Tensor) -> "FusedFeatures":
        return FusedFeatures(self.features[images])

    def first(self, images: int) -> "FusedFeatures":
        return FusedFeatures(self.features[:images])


def groups_of(rows: int, least: float) -> int:
    """Return the smallest number of equal groups of some rows, of which there are `least`."""
    return next((n for n in range(1, rows) if n >= least and rows % n == 0), rows)


class CrossAttention:
    """The cross-attention of all layers, made of a checkpoint's weights.

    With `absorb`, few texts for each image use `AbsorbedContext`, unless `way` is "keys". Keys and
    values are computed for `chunk` images at a time.
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
        way: CrossWay = "packed",
    ) -> None:
        weight: Tensor = layers[0].key.weight
        self._head_width, on_cpu = len(weight) // heads, weight.device.type == "cpu"
        absorb = absorb and way != "keys"
        self._absorbed = [AbsorbedWeights.of(layer, heads) for layer in layers] if absorb else []
        self._in_fp8 = make is fp8.Fp8Linear
        inputs: Inputs = "any" if self._in_fp8 else "normalized"
        self._project = [linear_of(make, layer.key, layer.value, inputs=inputs) for layer in layers]
        self._attention: MaskedAttention = fp8.attend if self._in_fp8 else attention
        self._heads, self._chunk = heads, chunk
        self._packs = way == "packed" and on_cpu and has_onednn(weight.dtype)
        self._in_integers = make is Int8Linear
        self._buffer: KeyValueBuffer | None = None
        self._features: Tensor | None = None  # a copy that stays at its address

    @property
    def capacity(self) -> int:
        """How many images' keys and values fit into the buffer."""
        return 0 if self._buffer is None else self._buffer.capacity

    @property
    def capacities(self) -> tuple[int, int]:
        """How many images fit into the buffers of `context_in_place`. Larger ones are at other
        addresses.
        """
        return self.capacity, 0 if self._features is None else len(self._features)

    def release_buffer(self) -> None:
        """Release the buffers for keys and values and for features."""
        self._buffer = self._features = None

    def absorbs(self, beams: int) -> bool:
        """Return whether the absorbed form is cheaper for so many texts for each image."""
        return bool(self._absorbed) and beams * LIKELY_TOKENS <= self._head_width

    def context_of(self, features: Tensor, beams: int) -> ImageContext:
        """Return the cheaper context for so many texts for each image.

        `features` are [images, patches, feature width].
        """
        if not self.absorbs(beams):
            return self.project(features)
        if self._packs and self._in_integers:
            integers = Int8Features([Int8Image(image) for image in features])
            return AbsorbedContext(integers, self._absorbed)
        if self._packs:
            packed = PackedFeatures([ImageFeatures(image) for image in features])
            return AbsorbedContext(packed, self._absorbed)
        return AbsorbedContext(FusedFeatures(features), self._absorbed)

    def context_in_place(self, features: Tensor, beams: int, *, capacity: int) -> ImageContext:
        """Return the cheaper context, in memory that has a fixed address while `capacities` are
        the same. It has `capacity` images; those beyond the given ones are undefined.
        """
        if not self.absorbs(beams):
            return self.project(features, capacity=capacity)
        if self._features is None or len(self._features) < capacity:
            self._features = None  # release it before the larger one is allocated
            self._features = features.new_zeros((capacity, *features.shape[1:]))
        self._features[: len(features)] = features
        return AbsorbedContext(BatchedFeatures(self._features[:capacity]), self._absorbed)

    def project(self, features: Tensor, *, capacity: int = 0) -> ProjectedContext:
        """Compute keys and values of image features [images, patches, feature width].

        They are written into a buffer that the next batch uses again (`keys_values`). The context
        has at least `capacity` images; the keys and values of images beyond the given ones are
        undefined.
        """
        images, patches, _ = features.shape
        capacity = max(images, capacity)
        if self.capacity < capacity:
            self._buffer = None  # release it before the larger one is allocated
            shape = len(self._project), capacity, self._heads, patches, self._head_width
            self._buffer = buffer_for(features, shape, in_fp8=self._in_fp8)
        assert self._buffer is not None  # its capacity would be 0
        for number, chunk in enumerate(torch.split(features, self._chunk)):
            chunk = fp8.to_fp8(chunk, "any") if self._in_fp8 else chunk  # once for all layers
            for layer, project in enumerate(self._project):
                self._buffer.fill(layer, number * self._chunk, chunk, project)
        return ProjectedContext(self._buffer.layers(capacity), self._attention)


def first_rows(layers: list[KeysValues], rows: int) -> list[KeysValues]:
    """Return the first rows of all layers, as views of the same memory."""
    return [(keys[:rows], values[:rows]) for keys, values in layers]
