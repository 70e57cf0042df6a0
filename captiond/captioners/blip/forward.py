"""The forward pass of BLIP for captions: a vision transformer and a text decoder.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022. The weights have
the names of checkpoints (`weights`); the order of the computation is captiond's. The keys
and values of cross-attention are computed once for an image and shared by its beams (`cross`). The
keys and values of self-attention are kept in a cache that is allocated beforehand, so a token step
computes the newest token only.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding

from captiond.captioners.blip import attention
from captiond.captioners.blip.attention import Attention
from captiond.captioners.blip.cross import Block, CrossAttention, ImageContext
from captiond.captioners.blip.keys_values import KeysValues
from captiond.captioners.blip.layers import TextLayer, text_layer
from captiond.captioners.blip.vision import VisionEncoder
from captiond.captioners.blip.weights import BlipModel
from captiond.captioners.choices import Choices
from captiond.captioners.fusion import kernels_for
from captiond.captioners.linear import Int8Linear, MakeLinear, linear_of
from captiond.captioners.norm import norms

USUAL = Choices()
SHRINK_BELOW = 0.7  # images that have ended are dropped once at most this part of a batch is open


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """The tables of the text decoder's embeddings, each [rows, width].

    They are copies: a view, or a tensor whose data replace those of a view, would keep the whole
    mapped file in memory.
    """

    words: Tensor
    positions: Tensor

    @classmethod
    def of(cls, module: Block) -> "TokenEmbeddings":
        words, positions = module.word_embeddings.weight, module.position_embeddings.weight
        return cls(words.detach().clone(), positions.detach().clone())


class TokenPositions(Protocol):
    """The positions, within their texts, of the tokens that are read."""

    def rows(self, table: Tensor) -> Tensor:
        """Return the rows of a table [positions, width] for these positions."""

    def self_attention(
        self, query: Tensor, keys: Tensor, values: Tensor, cache: KeysValues
    ) -> Tensor:
        """Write keys and values into the cache, and let each query attend to all tokens up to its
        own.
        """


@dataclass(frozen=True, slots=True)
class PositionRange:
    """Consecutive positions, known to the host."""

    begin: int
    end: int
    attention: Attention

    def rows(self, table: Tensor) -> Tensor:
        return table[self.begin : self.end]

    def self_attention(
        self, query: Tensor, keys: Tensor, values: Tensor, cache: KeysValues
    ) -> Tensor:
        for cached, new in zip(cache, (keys, values), strict=True):
            cached[:, :, self.begin : self.end] = new
        return self.attention(query, cache[0][:, :, : self.end], cache[1][:, :, : self.end])


@dataclass(slots=True)
class EagerState:
    """The state of a batch whose captions are being decoded, token by token.

    `cache` holds keys and values of self-attention for each layer, of which the first `length`
    tokens are valid. Its rows are texts: [images * beams].
    """

    forward: "Forward"
    context: ImageContext
    cache: list[KeysValues]
    length: int

    def step(self, tokens: Tensor) -> Tensor:
        """Read one token of each beam [images, beams]; return logits [images * beams, vocabulary].

        The logits predict the next token.
        """
        positions = PositionRange(self.length, self.length + 1, self.forward.text_attention)
        self.length += 1
        return self.forward.read(tokens, positions, self.cache, self.context)

    def select_images(self, images: Tensor) -> None:
        """Continue with these images only, given by their numbers."""
        beams = len(self.cache[0][0]) // self.context.images
        self.context = self.context.select(images)
        self.select_rows(rows_of(images, beams))

    def select_rows(self, rows: Tensor) -> None:
        """Let the text in row n continue the text that was in row `rows[n]`."""
        self.cache = [(keys[rows], values[rows]) for keys, values in self.cache]


def rows_of(images: Tensor, beams: int) -> Tensor:
    """Return the row numbers of the texts of some images, given by the images' numbers."""
    return (images[:, None] * beams + torch.arange(beams, device=images.device)).flatten()


class Forward:
    """The forward pass, with the weights of a model in the layout of `make`.

    It takes the layers out of the model, which cannot be used any more.

    Images go through the vision transformer in chunks of `rows` patches, at least one image: on a
    CPU the activations then stay in the caches. `absorb` allows cross-attention without keys and
    values for large images (`cross`). The linear layers of the text decoder are made by
    `make_text`, if it is given.
    """

    shrink_below = SHRINK_BELOW

    def __init__(
        self,
        model: BlipModel,
        make: MakeLinear,
        *,
        rows: int,
        absorb: bool = False,
        make_text: MakeLinear | None = None,
        choices: Choices = USUAL,
    ) -> None:
        config: Any = model.config
        self.kernels = kernels_for(model.dtype, model.device)
        norm = norms(self.kernels)
        self.text_attention = attention.for_text(model.device)
        self._heads = config.text_config.num_attention_heads
        self._head_width = config.text_config.hidden_size // self._heads
        self.positions: int = config.text_config.max_position_embeddings
        self.vision = VisionEncoder(model, make, norm, rows=rows, way=choices.attention)
        self.chunk = self.vision.chunk
        make_text = make_text or make
        text: Block = model.text_decoder.bert
        self._embeddings = TokenEmbeddings.of(text.embeddings)
        self._embeddings_norm = norm(text.embeddings.LayerNorm)
        self.cross_attention = CrossAttention(
            [layer.crossattention.self for layer in text.encoder.layer],
            make,
            self.text_attention,
            heads=self._heads,
            chunk=self.chunk,
            absorb=absorb and self.vision.patches >= attention.MANY_TOKENS,
            way=choices.cross,
        )
        self._text = [text_layer(layer, make_text, norm) for layer in text.encoder.layer]
        head: Block = model.text_decoder.cls.predictions
        self._transform = linear_of(make_text, head.transform.dense, activation="gelu")
        self._transform_norm = norm(head.transform.LayerNorm)
        self._vocabulary = linear_of(make_text, head.decoder)
        self._has_wide_logits = make_text is Int8Linear  # its products are in fp32 in any case

    @property
    def text_shape(self) -> tuple[int, int, int]:
        """Layers, heads and the width of a head of the text decoder."""
        return len(self._text), self._heads, self._head_width

    # ------------------------------------------------------------ vision

    def encode(self, pixels: Tensor) -> Tensor:
        """Return image features [images, 1 + patches, width] of normalized pixels
        [images, 3, height, width].
        """
        return self.vision.encode(pixels)

    def encode_chunk(self, pixels: Tensor) -> Tensor:
        """Encode as `encode` does, all images at once."""
        return self.vision.encode_chunk(pixels)

    # ------------------------------------------------------------ text

    def prefill(
        self, features: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[EagerState, Tensor]:
        """Read the prompt, token ids [tokens], which all images share.

        Return the state of the batch, whose cache has capacity for `new_tokens` more tokens, and
        the logits [images, vocabulary] that follow the prompt.
        """
        context = self.cross_attention.context_of(features, beams)
        cache = [self._empty_cache(features, len(prompt) + new_tokens) for _ in self._text]
        logits = self.read_prompt(prompt, cache, context)
        state = EagerState(self, context, cache, len(prompt))
        if beams > 1:
            images = torch.arange(len(features), device=features.device)
            state.select_rows(images.repeat_interleave(beams))
        return state, logits

    def _empty_cache(self, features: Tensor, length: int) -> KeysValues:
        shape = (len(features), self._heads, length, self._head_width)
        return features.new_empty(shape), features.new_empty(shape)

    def release_buffers(self) -> None:
        """Release memory that is kept for the next batch."""
        self.cross_attention.release_buffer()

    def read_prompt(self, prompt: Tensor, cache: list[KeysValues], context: ImageContext) -> Tensor:
        """Return the logits [images, vocabulary] that follow a prompt, token ids [tokens]."""
        attend = attention.causal if len(prompt) > 1 else self.text_attention
        tokens = prompt.expand(context.images, -1)
        positions = PositionRange(0, len(prompt), attend)
        return self.read(tokens, positions, cache, context, last_only=True)

    def read(
        self,
        tokens: Tensor,
        positions: TokenPositions,
        cache: list[KeysValues],
        context: ImageContext,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Read token ids [images, columns], and return logits [images * columns, vocabulary].

        The columns are consecutive tokens of one text, or one token of each beam of an image. With
        `last_only`, logits are of the last column only: [images, vocabulary].
        """
        table = self._embeddings
        position_embeddings = positions.rows(table.positions)
        hidden = embedding(tokens, table.words) + position_embeddings
        hidden = self._embeddings_norm(hidden)  # [images, columns, width]
        for number, layer in enumerate(self._text):
            # Self-attention, cross-attention, MLP; the last linear layer of each adds the residual.
            attended = self._self_attention(layer, hidden, cache[number], positions)
            hidden = layer.attention_norm.of_sum(layer.attention_output, attended, hidden)
            attended = context.attend(number, self._split_heads(layer.cross_query(hidden)))
            attended = self._join_heads(attended)
            hidden = layer.cross_norm.of_sum(layer.cross_output, attended, hidden)
            hidden = layer.mlp_norm.of_sum(layer.mlp.down, layer.mlp.up(hidden), hidden)
        if last_only:
            hidden = hidden[:, -1:]
        hidden = self._transform_norm(self._transform(hidden.flatten(0, 1)))
        return self._vocabulary(hidden.float() if self._has_wide_logits else hidden)

    def _self_attention(
        self, layer: TextLayer, hidden: Tensor, cache: KeysValues, positions: TokenPositions
    ) -> Tensor:
        """Let each text attend to its own tokens so far."""
        qkv = layer.qkv(hidden).view(len(cache[0]), -1, 3, self._heads, self._head_width)
        query, keys, values = qkv.permute(2, 0, 3, 1, 4)  # each [texts, heads, tokens, head width]
        attended = positions.self_attention(query, keys, values, cache)
        return attended.transpose(1, 2).reshape(hidden.shape)

    def _split_heads(self, hidden: Tensor) -> Tensor:
        """[images, columns, width] → [images, heads, columns, head width]"""
        return hidden.view(*hidden.shape[:2], self._heads, -1).transpose(1, 2)

    def _join_heads(self, attended: Tensor) -> Tensor:
        """[images, heads, columns, head width] → [images, columns, width]"""
        return attended.transpose(1, 2).flatten(2)
