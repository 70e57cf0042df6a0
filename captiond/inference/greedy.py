"""BLIP's forward for captions, by greedy search: the paper's image-grounded text decoder.

The weights stay where transformers loaded them; the order of the work is ours. Attention is fused;
the cross-attention's keys and values are computed once for an image; those of the text are written
into memory that was taken beforehand; of each step only the newest token is computed; and captions
that have ended leave the batch. Tokens are those of `generate` (Li et al., 2022; tests hold it).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention
from transformers import BlipForConditionalGeneration

Block: TypeAlias = Any  # one of transformers' modules, whose parts nn.Module leaves untyped
KEEP = 0.7  # of a batch may still go on when the rest is dropped: dropping copies what stays


@dataclass(slots=True)
class State:
    """A batch on its way: keys and values of every layer, [batch, heads, tokens, width]."""

    cross: list[tuple[Tensor, Tensor]]
    own: list[tuple[Tensor, Tensor]]

    def select(self, rows: Tensor) -> None:
        """Go on with these rows alone, told by a mask."""
        self.cross = [(keys[rows], values[rows]) for keys, values in self.cross]
        self.own = [(keys[rows], values[rows]) for keys, values in self.own]


class GreedyDecoder:
    """A loaded model's greedy search."""

    def __init__(self, model: BlipForConditionalGeneration) -> None:
        config: Any = model.config
        text = config.text_config
        self._vision: Block = model.vision_model
        self._text: Block = model.text_decoder.bert
        self._head: Block = model.text_decoder.cls.predictions
        self._vision_heads = config.vision_config.num_attention_heads
        self._heads = text.num_attention_heads
        self._begin, self._end, self._pad = text.bos_token_id, text.sep_token_id, text.pad_token_id

    def __call__(self, pixels: Tensor, max_new_tokens: int) -> Tensor:
        """Normalized pixels [batch, 3, height, width] → token ids [batch, length].

        The first is [DEC]; what stands behind the end of a caption is padding.
        """
        batch, device = len(pixels), pixels.device
        state = self._prefill(self.encode(pixels), max_new_tokens)
        tokens = torch.full((batch, 1 + max_new_tokens), self._pad, device=device)
        tokens[:, 0] = newest = torch.full((batch,), self._begin, device=device)
        rows = torch.arange(batch, device=device)  # of `tokens`, that are in `state`
        open_ = torch.ones(batch, dtype=torch.bool, device=device)  # whether they still go on
        for place in range(max_new_tokens):
            newest = self._step(state, newest, place).argmax(-1)
            newest = torch.where(open_, newest, self._pad)
            tokens[rows, place + 1] = newest
            open_ = open_ & (newest != self._end)
            count = int(open_.sum())
            if count == 0:
                return tokens[:, : place + 2]
            if count <= KEEP * len(rows):
                state.select(open_)
                newest, rows, open_ = newest[open_], rows[open_], open_[open_]
        return tokens

    # ------------------------------------------------------------ vision

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [batch, 3, height, width] → [batch, 1 + patches, width]."""
        hidden = self._vision.embeddings(pixels)
        for layer in self._vision.encoder.layers:
            hidden = hidden + self._look(layer.self_attn, layer.layer_norm1(hidden))
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        encoded: Tensor = self._vision.post_layernorm(hidden)
        return encoded

    def _look(self, block: Block, hidden: Tensor) -> Tensor:
        batch, patches, width = hidden.shape
        qkv = block.qkv(hidden).view(batch, patches, 3, self._vision_heads, -1)
        query, keys, values = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, patches, head width]
        seen = attention(query, keys, values).transpose(1, 2).reshape(batch, patches, width)
        projected: Tensor = block.projection(seen)
        return projected

    # ------------------------------------------------------------ text

    def _prefill(self, seen: Tensor, length: int) -> State:
        cross, own = [], []
        for layer in self._text.encoder.layer:
            block = layer.crossattention.self
            cross.append((self._split(block.key(seen)), self._split(block.value(seen))))
            keys = cross[-1][0]
            shape = (keys.shape[0], keys.shape[1], length, keys.shape[3])
            own.append((keys.new_empty(shape), keys.new_empty(shape)))
        return State(cross, own)

    def _step(self, state: State, token: Tensor, place: int) -> Tensor:
        """The logits [batch, vocabulary] of what follows `token` [batch] at `place`."""
        embeddings = self._text.embeddings
        hidden = embeddings.word_embeddings(token) + embeddings.position_embeddings.weight[place]
        hidden = embeddings.LayerNorm(hidden).unsqueeze(1)  # [batch, 1, width]
        for layer, own, cross in zip(self._text.encoder.layer, state.own, state.cross, strict=True):
            hidden = self._attend_own(layer.attention, hidden, own, place)
            hidden = self._attend(layer.crossattention, hidden, *cross)
            hidden = layer.feed_forward_chunk(hidden)
        logits: Tensor = self._head(hidden.squeeze(1))
        return logits

    def _attend_own(
        self, block: Block, hidden: Tensor, own: tuple[Tensor, Tensor], place: int
    ) -> Tensor:
        keys, values = own
        keys[:, :, place : place + 1] = self._split(block.self.key(hidden))
        values[:, :, place : place + 1] = self._split(block.self.value(hidden))
        return self._attend(block, hidden, keys[:, :, : place + 1], values[:, :, : place + 1])

    def _attend(self, block: Block, hidden: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        query = self._split(block.self.query(hidden))
        found = attention(query, keys, values).transpose(1, 2).flatten(2)
        added: Tensor = block.output(found, hidden)
        return added

    def _split(self, hidden: Tensor) -> Tensor:
        """[batch, tokens, width] → [batch, heads, tokens, head width]"""
        return hidden.view(*hidden.shape[:2], self._heads, -1).transpose(1, 2)
