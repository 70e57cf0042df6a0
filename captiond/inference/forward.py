"""BLIP's forward for captions: a vision transformer, and a text decoder that looks at what it saw.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022; the weights are those of
transformers' `BlipForConditionalGeneration`, the order of the work is ours. The keys and values of
the cross-attention are computed once for an image, and shared by its beams; those of the text are
written into memory that was taken beforehand; a step computes the newest token only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm
from transformers import BlipForConditionalGeneration

from captiond.inference import attention
from captiond.inference.linear import Activation, Linear, MakeLinear

Block: TypeAlias = Any  # one of transformers' modules, whose parts nn.Module leaves untyped
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
    cross_kv: Linear
    cross_projection: Linear
    cross_norm: Norm
    up: Linear  # with GELU
    down: Linear
    mlp_norm: Norm


@dataclass(slots=True)
class State:
    """A batch on its way: keys and values of each layer, and how many tokens of text they hold.

    `cross` is [images, heads, patches, head width]; `own` is [images * beams, heads, tokens,
    head width], of which the first `length` tokens are there.
    """

    cross: list[tuple[Tensor, Tensor]]
    own: list[tuple[Tensor, Tensor]]
    length: int = 0

    def select_images(self, images: Tensor) -> None:
        """Go on with these images alone, told by their numbers."""
        beams = len(self.own[0][0]) // len(self.cross[0][0])
        self.cross = [(keys[images], values[images]) for keys, values in self.cross]
        rows = images[:, None] * beams + torch.arange(beams, device=images.device)
        self.select_rows(rows.flatten())

    def select_rows(self, rows: Tensor) -> None:
        """Let row n of the text go on from what was row `rows[n]`."""
        self.own = [(keys[rows], values[rows]) for keys, values in self.own]


class Forward:
    """The weights of a model, laid out by `make`, and what is computed with them. The model itself
    is taken apart.

    Images go through the vision encoder some `rows` of patches at a time, at least one image: on a
    CPU, what they leave between two layers stays in the caches.
    """

    def __init__(self, model: BlipForConditionalGeneration, make: MakeLinear, *, rows: int) -> None:
        config: Any = model.config
        self._look_at_image = attention.for_images(model.dtype, model.device)
        self._look = attention.for_text(model.device)
        self._vision_heads = config.vision_config.num_attention_heads
        self._heads = config.text_config.num_attention_heads
        self._head_width = config.text_config.hidden_size // self._heads
        self._cross_room: Tensor | None = None
        self.positions: int = config.text_config.max_position_embeddings
        self._patches: Block = copied(model.vision_model.embeddings)
        self._chunk = max(1, rows // self._patches.num_positions)
        self._vision = [vision_layer(layer, make) for layer in model.vision_model.encoder.layers]
        self._last_norm = norm_of(model.vision_model.post_layernorm)
        text: Block = model.text_decoder.bert
        self._embeddings: Block = copied(text.embeddings)
        self._embeddings_norm = norm_of(text.embeddings.LayerNorm)
        self._text = [text_layer(layer, make) for layer in text.encoder.layer]
        head: Block = model.text_decoder.cls.predictions
        self._transform = linear_of(make, head.transform.dense, activation="gelu")
        self._transform_norm = norm_of(head.transform.LayerNorm)
        self._vocabulary = linear_of(make, head.decoder)

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
    ) -> tuple[State, Tensor]:
        """Read the prompt [tokens], which all images share.

        Returns the state, with room for `new_tokens` more, and the logits [images, vocabulary] of
        what follows the prompt.
        """
        images = len(seen)
        state = State(self._cross(seen), [])
        length = len(prompt) + new_tokens
        state.own = [self._room(keys, length) for keys, _ in state.cross]
        logits = self._advance(state, prompt.expand(images, -1), causal=True)
        if beams > 1:
            rows = torch.arange(images, device=seen.device).repeat_interleave(beams)
            state.select_rows(rows)
        return state, logits

    def step(self, state: State, tokens: Tensor) -> Tensor:
        """One more token for each beam, [images, beams] → logits [images * beams, vocabulary]."""
        return self._advance(state, tokens, causal=False)

    def _cross(self, seen: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the cross-attention, in memory that the next batch uses again:
        to ask for so much anew takes longer than to fill it.
        """
        images, patches, _ = seen.shape
        shape = (len(self._text), 2, images, self._heads, patches, self._head_width)
        if self._cross_room is None or self._cross_room.shape[2] < images:
            self._cross_room = seen.new_empty(shape)
        room = self._cross_room[:, :, :images]
        for chunk, image in zip(
            torch.split(seen, self._chunk), torch.split(room, self._chunk, 2), strict=True
        ):
            for layer, both in zip(self._text, image, strict=True):
                kv = layer.cross_kv(chunk).view(len(chunk), patches, 2, self._heads, -1)
                both.copy_(kv.permute(2, 0, 3, 1, 4))
        return [(keys, values) for keys, values in room]

    def _room(self, like: Tensor, length: int) -> tuple[Tensor, Tensor]:
        images, heads, _, width = like.shape
        return like.new_empty(images, heads, length, width), like.new_empty(
            images, heads, length, width
        )

    def _advance(self, state: State, tokens: Tensor, *, causal: bool) -> Tensor:
        """Tokens [images, columns]: a prompt, which is read at once, or one token for each beam."""
        begin, new = state.length, tokens.shape[1] if causal else 1
        state.length += new
        places = self._embeddings.position_embeddings.weight[begin : state.length]
        hidden = embedding(tokens, self._embeddings.word_embeddings.weight) + places
        hidden = self._embeddings_norm(hidden)  # [images, columns, width]
        for layer, own, cross in zip(self._text, state.own, state.cross, strict=True):
            found = self._recall(layer, hidden, own, begin, new)
            hidden = layer.norm(layer.projection(found, hidden))
            found = self._look(self._split(layer.cross_query(hidden)), *cross)
            hidden = layer.cross_norm(layer.cross_projection(self._join(found), hidden))
            hidden = layer.mlp_norm(layer.down(layer.up(hidden), hidden))
        if causal:
            hidden = hidden[:, -1:]
        hidden = self._transform_norm(self._transform(hidden.flatten(0, 1)))
        return self._vocabulary(hidden)

    def _recall(
        self, layer: TextLayer, hidden: Tensor, own: tuple[Tensor, Tensor], begin: int, new: int
    ) -> Tensor:
        """Attend to the text so far, each row to its own."""
        keys, values = own
        rows, end = len(keys), begin + new
        qkv = layer.qkv(hidden).view(rows, new, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        keys[:, :, begin:end], values[:, :, begin:end] = qkv[1], qkv[2]
        look = attention.causal if new > 1 else self._look
        found = look(qkv[0], keys[:, :, :end], values[:, :, :end])
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
        cross_kv=linear_of(make, cross.self.key, cross.self.value),
        cross_projection=linear_of(make, cross.output.dense),
        cross_norm=norm_of(cross.output.LayerNorm),
        up=linear_of(make, layer.intermediate.dense, activation="gelu"),
        down=linear_of(make, layer.output.dense),
        mlp_norm=norm_of(layer.output.LayerNorm),
    )


def linear_of(make: MakeLinear, *layers: nn.Linear, activation: Activation = "none") -> Linear:
    """One layer of several that take the same input: their outputs stand side by side.

    The weights are taken out of their modules, so that they are in memory once.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers])
    bias = torch.cat([layer.bias.detach() for layer in layers])
    for layer in layers:
        del layer.weight, layer.bias
    return make(weight, bias, activation)


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
