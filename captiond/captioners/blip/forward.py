"""BLIP's forward for captions: a vision transformer, and a text decoder that looks at what it saw.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022; the weights are those of
transformers' `BlipForConditionalGeneration`, the order of the work is ours. Keys and values of the
cross-attention, where there are any (`cross`), are computed once for an image, and shared by its
beams; those of the text are written into memory that was taken beforehand; a step computes the
newest token only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm
from transformers import BlipForConditionalGeneration

from captiond.captioners.blip import attention
from captiond.captioners.blip.attention import Attention
from captiond.captioners.blip.cross import Block, Cross, CrossAttention, KeysValues
from captiond.captioners.linear import Linear, MakeLinear, linear_of

KEEP = 0.7  # of a batch may still go on when the rest is dropped
Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class VisionLayer:
    norm: Norm
    qkv: Linear
    projection: Linear
    mlp_norm: Norm
    up: Linear  # with GELU
    down: Linear


@dataclass(frozen=True, slots=True)
class TextLayer:
    qkv: Linear
    projection: Linear
    norm: Norm
    cross_query: Linear
    cross_projection: Linear
    cross_norm: Norm
    up: Linear  # with GELU
    down: Linear
    mlp_norm: Norm


class Place(Protocol):
    """Where in their texts the new tokens of a pass stand."""

    def rows(self, table: Tensor) -> Tensor:
        """The rows of a table [positions, width] for them."""

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, own: KeysValues) -> Tensor:
        """Keep the new keys and values in `own`, and attend to all that is there up to each."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens from `begin` on, several of which see the ones before them."""

    begin: int
    end: int
    look: Attention

    def rows(self, table: Tensor) -> Tensor:
        return table[self.begin : self.end]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, own: KeysValues) -> Tensor:
        for kept, new in zip(own, (keys, values), strict=True):
            kept[:, :, self.begin : self.end] = new
        return self.look(query, own[0][:, :, : self.end], own[1][:, :, : self.end])


@dataclass(slots=True)
class Running:
    """A batch on its way: what its texts look at, and their own keys and values [images * beams] of
    each layer, of which the first `length` tokens are there.
    """

    forward: "Forward"
    cross: Cross
    own: list[KeysValues]
    length: int

    def step(self, tokens: Tensor) -> Tensor:
        """One more token for each beam, [images, beams] → logits [images * beams, vocabulary]."""
        place = Span(self.length, self.length + 1, self.forward.look)
        self.length += 1
        return self.forward.read(tokens, place, self.own, self.cross)

    def select_images(self, images: Tensor) -> None:
        """Go on with these images alone, told by their numbers."""
        beams = len(self.own[0][0]) // self.cross.images
        self.cross = self.cross.select(images)
        self.select_rows(rows_of(images, beams))

    def select_rows(self, rows: Tensor) -> None:
        """Let row n of the text go on from what was row `rows[n]`."""
        self.own = [(keys[rows], values[rows]) for keys, values in self.own]


def rows_of(images: Tensor, beams: int) -> Tensor:
    """The numbers of the texts of some images, told by theirs."""
    return (images[:, None] * beams + torch.arange(beams, device=images.device)).flatten()


class Forward:
    """The weights of a model, laid out by `make`, and what is computed with them. The model itself
    is taken apart.

    Images go through the vision encoder some `rows` of patches at a time, at least one image: on a
    CPU, what they leave between two layers stays in the caches. With `fold`, few texts of large
    images need no keys and values of them (`cross`).
    """

    keep = KEEP

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        make: MakeLinear,
        *,
        rows: int,
        fold: bool = False,
    ) -> None:
        config: Any = model.config
        self._look_at_image = attention.for_images(model.dtype, model.device)
        self.look = attention.for_text(model.device)
        self._vision_heads = config.vision_config.num_attention_heads
        self._heads = config.text_config.num_attention_heads
        self._head_width = config.text_config.hidden_size // self._heads
        self.positions: int = config.text_config.max_position_embeddings
        self._patches: Block = copied(model.vision_model.embeddings)
        self._chunk = max(1, rows // self._patches.num_positions)
        self._vision = [vision_layer(layer, make) for layer in model.vision_model.encoder.layers]
        self._last_norm = norm_of(model.vision_model.post_layernorm)
        text: Block = model.text_decoder.bert
        self._embeddings: Block = copied(text.embeddings)
        self._embeddings_norm = norm_of(text.embeddings.LayerNorm)
        self.cross = CrossAttention(
            [layer.crossattention.self for layer in text.encoder.layer],
            make,
            self.look,
            heads=self._heads,
            chunk=self._chunk,
            fold=fold and self._patches.num_positions >= attention.MANY_TOKENS,
        )
        self._text = [text_layer(layer, make) for layer in text.encoder.layer]
        head: Block = model.text_decoder.cls.predictions
        self._transform = linear_of(make, head.transform.dense, activation="gelu")
        self._transform_norm = norm_of(head.transform.LayerNorm)
        self._vocabulary = linear_of(make, head.decoder)

    @property
    def text_shape(self) -> tuple[int, int, int]:
        """Return the text decoder's number of layers, of heads, and the width of a head."""
        return len(self._text), self._heads, self._head_width

    # ------------------------------------------------------------ vision

    def encode(self, pixels: Tensor) -> Tensor:
        """Normalized pixels [images, 3, height, width] → [images, 1 + patches, width]."""
        return torch.cat([self._encode(chunk) for chunk in torch.split(pixels, self._chunk)])

    def _encode(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = self._patches(pixels)
        for layer in self._vision:
            hidden = layer.projection(self._mix(layer, layer.norm(hidden)), hidden)
            hidden = layer.down(layer.up(layer.mlp_norm(hidden)), hidden)
        return self._last_norm(hidden)

    def _mix(self, layer: VisionLayer, hidden: Tensor) -> Tensor:
        images, patches, width = hidden.shape
        qkv = layer.qkv(hidden).view(images, patches, 3, self._vision_heads, -1)
        # each [images, heads, patches, head width]
        query, keys, values = qkv.permute(2, 0, 3, 1, 4).contiguous()
        found = self._look_at_image(query, keys, values)
        return found.transpose(1, 2).reshape(images, patches, width)

    # ------------------------------------------------------------ text

    def prefill(
        self, seen: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[Running, Tensor]:
        """Read the prompt [tokens], which all images share.

        Returns the batch, with room for `new_tokens` more, and the logits [images, vocabulary] of
        what follows the prompt.
        """
        cross = self.cross.of(seen, beams)
        own = [self._room(seen, len(prompt) + new_tokens) for _ in self._text]
        logits = self.read_prompt(prompt, own, cross)
        running = Running(self, cross, own, len(prompt))
        if beams > 1:
            running.select_rows(
                torch.arange(len(seen), device=seen.device).repeat_interleave(beams)
            )
        return running, logits

    def _room(self, seen: Tensor, length: int) -> KeysValues:
        shape = (len(seen), self._heads, length, self._head_width)
        return seen.new_empty(shape), seen.new_empty(shape)

    def forget(self) -> None:
        """Let go of memory that is kept for the next batch."""
        self.cross.forget()

    def read_prompt(self, prompt: Tensor, own: list[KeysValues], cross: Cross) -> Tensor:
        """The logits [images, vocabulary] of what follows a prompt [tokens], read at once."""
        look = attention.causal if len(prompt) > 1 else self.look
        tokens = prompt.expand(cross.images, -1)
        return self.read(tokens, Span(0, len(prompt), look), own, cross, last_only=True)

    def read(
        self,
        tokens: Tensor,
        place: Place,
        own: list[KeysValues],
        cross: Cross,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Read tokens [images, columns], which are one text's, or one of each of an image's beams.

        Returns logits [images * columns, vocabulary], of the last column alone if that is asked.
        """
        table = self._embeddings
        places = place.rows(table.position_embeddings.weight)
        hidden = embedding(tokens, table.word_embeddings.weight) + places
        hidden = self._embeddings_norm(hidden)  # [images, columns, width]
        for number, (layer, mine) in enumerate(zip(self._text, own, strict=True)):
            found = self._recall(layer, hidden, mine, place)
            hidden = layer.norm(layer.projection(found, hidden))
            found = cross.look(number, self._split(layer.cross_query(hidden)))
            hidden = layer.cross_norm(layer.cross_projection(self._join(found), hidden))
            hidden = layer.mlp_norm(layer.down(layer.up(hidden), hidden))
        if last_only:
            hidden = hidden[:, -1:]
        hidden = self._transform_norm(self._transform(hidden.flatten(0, 1)))
        return self._vocabulary(hidden)

    def _recall(self, layer: TextLayer, hidden: Tensor, own: KeysValues, place: Place) -> Tensor:
        """Attend to the text so far, each row to its own."""
        qkv = layer.qkv(hidden).view(len(own[0]), -1, 3, self._heads, self._head_width)
        query, keys, values = qkv.permute(2, 0, 3, 1, 4)
        found = place.attend(query, keys, values, own)
        return found.transpose(1, 2).reshape(hidden.shape)

    def _split(self, hidden: Tensor) -> Tensor:
        """[images, columns, width] → [images, heads, columns, head width]"""
        return hidden.view(*hidden.shape[:2], self._heads, -1).transpose(1, 2)

    def _join(self, found: Tensor) -> Tensor:
        return found.transpose(1, 2).flatten(2)


def vision_layer(layer: Block, make: MakeLinear) -> VisionLayer:
    return VisionLayer(
        norm=norm_of(layer.layer_norm1),
        qkv=linear_of(make, layer.self_attn.qkv),
        projection=linear_of(make, layer.self_attn.projection),
        mlp_norm=norm_of(layer.layer_norm2),
        up=linear_of(make, layer.mlp.fc1, activation="gelu"),
        down=linear_of(make, layer.mlp.fc2),
    )


def text_layer(layer: Block, make: MakeLinear) -> TextLayer:
    own, cross = layer.attention, layer.crossattention
    return TextLayer(
        qkv=linear_of(make, own.self.query, own.self.key, own.self.value),
        projection=linear_of(make, own.output.dense),
        norm=norm_of(own.output.LayerNorm),
        cross_query=linear_of(make, cross.self.query),
        cross_projection=linear_of(make, cross.output.dense),
        cross_norm=norm_of(cross.output.LayerNorm),
        up=linear_of(make, layer.intermediate.dense, activation="gelu"),
        down=linear_of(make, layer.output.dense),
        mlp_norm=norm_of(layer.output.LayerNorm),
    )


def copied(module: Block) -> Block:
    """With weights of its own: those of a mapped file would keep all of it in memory."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


def norm_of(module: nn.LayerNorm) -> Norm:
    return partial(
        layer_norm,
        normalized_shape=list(module.normalized_shape),
        weight=module.weight.detach().clone(),
        bias=module.bias.detach().clone(),
        eps=module.eps,
    )
