"""How texts look at their images: the decoder's cross-attention, done two ways.

As it is written, every layer makes keys and values of all that the encoder saw, once for an image
(`Kept`), and a query is held against them. Or the query goes to where it can look at what was seen
itself: q · (W s + b) is (Wᵀ q) · s and a term that all patches share, which softmax takes out; and
Σ p (W s + b) is W (Σ p s) + b (`Absorbed`; DeepSeek-AI, "DeepSeek-V2", 2024, spare the keys and
values of self-attention so). A token then costs as many times more as there are heads, and an image
nothing, nor memory: worth it while an image has fewer tokens than a head is wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from captiond.captioners.blip.attention import Masked
from captiond.captioners.linear import Linear, MakeLinear, PackedLinear, linear_of

LIKELY_TOKENS = 16  # of a text, its prompt included
Block: TypeAlias = Any  # one of transformers' modules, whose parts nn.Module leaves untyped
KeysValues = tuple[Tensor, Tensor]  # of one layer, each [rows, heads, tokens, head width]


class Cross(Protocol):
    """What the texts of a batch look at."""

    @property
    def images(self) -> int: ...

    @property
    def memory(self) -> Sequence[Tensor]:
        """Return the tensors that hold it, [images, ...] each; none if it is packed."""

    def look(self, layer: int, query: Tensor) -> Tensor:
        """What a layer's queries find, both [images, heads, columns, head width]."""

    def select(self, images: Tensor) -> "Cross":
        """These images alone, told by their numbers."""

    def first(self, images: int) -> "Cross":
        """Return the first images, as views of the same memory."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys and values of each layer."""

    layers: list[KeysValues]
    attend: Masked

    @property
    def images(self) -> int:
        return len(self.layers[0][0])

    @property
    def memory(self) -> Sequence[Tensor]:
        return [memory for both in self.layers for memory in both]

    def look(self, layer: int, query: Tensor) -> Tensor:
        return self.attend(query, *self.layers[layer])

    def select(self, images: Tensor) -> "Kept":
        return replace(
            self, layers=[(keys[images], values[images]) for keys, values in self.layers]
        )

    def first(self, images: int) -> "Kept":
        """The first ones, in the same memory."""
        return replace(self, layers=first(self.layers, images))


@dataclass(frozen=True, slots=True)
class Folded:
    """The weights of a layer's keys and values by head: from a query to where it looks at what was
    seen [heads, head width, seen width], and back from there [heads, seen width, head width].
    """

    there: Tensor
    back: Tensor
    bias: Tensor  # [heads, 1, head width]

    @classmethod
    def of(cls, attention: Block, heads: int) -> "Folded":
        there = attention.key.weight.detach().unflatten(0, (heads, -1))
        back = attention.value.weight.detach().unflatten(0, (heads, -1)).transpose(1, 2)
        bias = attention.value.bias.detach().view(heads, 1, -1)
        return cls(there * there.shape[1] ** -0.5, back.contiguous(), bias.clone())


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What the encoder saw of each image, [patches, seen width], which all layers look at."""

    seen: "Seen"
    layers: Sequence[Folded]

    @property
    def images(self) -> int:
        return len(self.seen)

    @property
    def memory(self) -> Sequence[Tensor]:
        return self.seen.memory

    def look(self, layer: int, query: Tensor) -> Tensor:
        images, heads, columns, width = query.shape
        folded, by_head = self.layers[layer], query.transpose(0, 1).flatten(1, 2)
        looking = torch.bmm(by_head, folded.there).view(heads, images, columns, -1)
        looking = looking.transpose(0, 1).reshape(images, heads * columns, -1).contiguous()
        found = self.seen.look(looking)
        found = found.view(images, heads, columns, -1).transpose(0, 1).flatten(1, 2)
        found = torch.baddbmm(folded.bias, found, folded.back)
        return found.view(heads, images, columns, width).transpose(0, 1)

    def select(self, images: Tensor) -> "Absorbed":
        return replace(self, seen=self.seen.select(images))

    def first(self, images: int) -> "Absorbed":
        return replace(self, seen=self.seen.first(images))


class Seen(Protocol):
    """What the encoder saw of a batch of images."""

    @property
    def memory(self) -> Sequence[Tensor]:
        """Return the tensors that hold it, [images, ...] each; none if it is packed."""

    def __len__(self) -> int:
        """Return the number of images."""

    def look(self, texts: Tensor) -> Tensor:
        """Return what queries [images, rows, seen width] attend to, in the same shape."""

    def select(self, images: Tensor) -> "Seen":
        """Return these images alone, by their numbers."""

    def first(self, images: int) -> "Seen":
        """Return the first images, as views of the same memory."""


@dataclass(frozen=True, slots=True)
class Together:
    """All images in one tensor [images, patches, seen width], which batched products attend to.

    A GPU starts two products for a whole batch, however many images it has.
    """

    patches: Tensor

    @property
    def memory(self) -> Sequence[Tensor]:
        return (self.patches,)

    def __len__(self) -> int:
        return len(self.patches)

    def look(self, texts: Tensor) -> Tensor:
        scores = torch.bmm(texts, self.patches.transpose(1, 2))
        return torch.bmm(scores.softmax(-1), self.patches)

    def select(self, images: Tensor) -> "Together":
        return Together(self.patches[images])

    def first(self, images: int) -> "Together":
        return Together(self.patches[:images])


@dataclass(frozen=True, slots=True)
class Apart:
    """Each image's patches packed by themselves for oneDNN, which is quicker on a CPU."""

    sights: Sequence["Sight"]

    @property
    def memory(self) -> Sequence[Tensor]:
        return ()  # packed weights cannot be written to

    def __len__(self) -> int:
        return len(self.sights)

    def look(self, texts: Tensor) -> Tensor:
        found = [sight.look(rows) for sight, rows in zip(self.sights, texts, strict=True)]
        return torch.stack(found)

    def select(self, images: Tensor) -> "Apart":
        return Apart([self.sights[image] for image in images.tolist()])

    def first(self, images: int) -> "Apart":
        return Apart(self.sights[:images])


class Sight:
    """What was seen of one image, laid out for the products of both ways."""

    def __init__(self, seen: Tensor) -> None:
        self._scores = PackedLinear(seen, None)
        self._sums = PackedLinear(seen.t().contiguous(), None)

    def look(self, texts: Tensor) -> Tensor:
        """The sums that texts [rows, seen width] find, by how much each patch is what they seek."""
        return self._sums(self._scores(texts).softmax(-1))


class CrossAttention:
    """That of all layers, made of transformers' modules; `fold` to be able to absorb.

    What was seen is projected some images at a time, `chunk`.
    """

    def __init__(
        self,
        layers: Sequence[Block],
        make: MakeLinear,
        look: Masked,
        *,
        heads: int,
        chunk: int,
        fold: bool,
    ) -> None:
        self._width = layers[0].key.out_features // heads
        self._folded = [Folded.of(layer, heads) for layer in layers] if fold else []
        self._project: list[Linear] = [linear_of(make, layer.key, layer.value) for layer in layers]
        self._look, self._heads, self._chunk = look, heads, chunk
        self._packs = make is PackedLinear
        self._room: Tensor | None = None
        self._seen: Tensor | None = None  # what `absorb` has taken

    @property
    def room(self) -> int:
        """The images that there is room for in the memory that `keep` has taken."""
        return 0 if self._room is None else self._room.shape[2]

    @property
    def taken(self) -> tuple[int, int]:
        """Return how many images fit into the memory of `keep`, and into that of `absorb`."""
        return self.room, 0 if self._seen is None else len(self._seen)

    def forget(self) -> None:
        """Let go of that memory."""
        self._room = self._seen = None

    def absorbs(self, beams: int) -> bool:
        """Return whether `Absorbed` costs less than `Kept` for so many texts an image."""
        return bool(self._folded) and beams * LIKELY_TOKENS <= self._width

    def of(self, seen: Tensor, beams: int) -> Cross:
        """What costs less for so many texts an image."""
        if not self.absorbs(beams):
            return self.keep(seen)
        if self._packs:
            return Absorbed(Apart([Sight(image) for image in seen]), self._folded)
        return Absorbed(Together(seen), self._folded)

    def in_place(self, seen: Tensor, beams: int, *, room_for: int) -> Cross:
        """Return the same as `of`, in memory whose address changes only when `taken` does.

        It has capacity for `room_for` images. What it holds behind `seen` is undefined.
        """
        if self.absorbs(beams):
            return self.absorb(seen, room_for=room_for)
        return self.keep(seen, room_for=room_for)

    def absorb(self, seen: Tensor, *, room_for: int) -> Absorbed:
        """Copy what was seen into memory that the next batch uses again."""
        if self._seen is None or len(self._seen) < room_for:
            self._seen = None  # goes before the new one comes
            self._seen = seen.new_zeros((room_for, *seen.shape[1:]))
        self._seen[: len(seen)] = seen
        return Absorbed(Together(self._seen[:room_for]), self._folded)

    def keep(self, seen: Tensor, *, room_for: int = 0) -> Kept:
        """Keys and values, in memory that the next batch uses again: to ask for so much anew takes
        longer than to fill it. There is room for more images, whose keys and values are anything.
        """
        images, patches, _ = seen.shape
        room_for = max(images, room_for)
        if self._room is None or self.room < room_for:
            self._room = None  # goes before the new one comes
            shape = (len(self._project), 2, room_for, self._heads, patches, self._width)
            self._room = seen.new_zeros(shape)
        room = self._room[:, :, :images]
        for chunk, image in zip(
            torch.split(seen, self._chunk), torch.split(room, self._chunk, 2), strict=True
        ):
            for project, both in zip(self._project, image, strict=True):
                kv = project(chunk).view(len(chunk), patches, 2, self._heads, -1)
                both.copy_(kv.permute(2, 0, 3, 1, 4))
        layers = [(keys, values) for keys, values in self._room[:, :, :room_for]]
        return Kept(layers, self._look)


def first(layers: list[KeysValues], rows: int) -> list[KeysValues]:
    """The first rows of all layers, in the same memory."""
    return [(keys[:rows], values[:rows]) for keys, values in layers]
