"""BLIP's image-text matching: whether a text fits an image.

A text encoder reads a text with cross-attention to the image features, and a head on its first
token gives two logits: no match, and match (Li et al., 2022). The score of a text is their
difference: the logarithm of how many times more probable a match is. transformers has the model as
`BlipForImageTextRetrieval`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from torch.nn.functional import embedding

from captiond.captioners.blip import attention
from captiond.captioners.blip.cross import Block, CrossAttention, ImageContext
from captiond.captioners.blip.forward import TokenEmbeddings
from captiond.captioners.blip.layers import TextLayer, text_layer
from captiond.captioners.blip.matching_weights import MatchingModel
from captiond.captioners.fusion import kernels_for
from captiond.captioners.linear import MakeLinear, linear_of
from captiond.captioners.norm import norms

COLUMNS = 512  # tokens of texts that are read in one pass for an image
CPU_IMAGES, GPU_IMAGES = 1, 16  # in one pass


class Matcher:
    """Scores texts by the features of images."""

    def __init__(self, model: MatchingModel, tokenizer: Tokenizer, make: MakeLinear) -> None:
        config: Any = model.config.text_config
        norm = norms(kernels_for(model.dtype, model.device))
        text: Block = model.text_encoder
        tokenizer.encode_special_tokens = True  # "[SEP]" in a tag is text
        self._tokenizer = tokenizer
        self._device = model.device
        self._chunk = GPU_IMAGES if model.device.type == "cuda" else CPU_IMAGES
        self._heads: int = config.num_attention_heads
        self._positions: int = config.max_position_embeddings
        self._attend = attention.for_text(model.device)
        self._embeddings = TokenEmbeddings.of(text.embeddings)
        self._embeddings_norm = norm(text.embeddings.LayerNorm)
        self._layers = [text_layer(layer, make, norm) for layer in text.encoder.layer]
        self._cross_attention = CrossAttention(
            [layer.crossattention.self for layer in text.encoder.layer],
            make,
            self._attend,
            heads=self._heads,
            chunk=self._chunk,
            absorb=False,
        )
        self._head = linear_of(make, model.itm_head)

    def of_each(self, features: Tensor, texts: Sequence[Sequence[str]]) -> Tensor:
        """Return the scores of as many texts for each image, float32 [images, texts].

        `features` are [images, 1 + patches, width].
        """
        scores = []
        for begin in range(0, len(features), self._chunk):
            end = begin + self._chunk
            context = self._cross_attention.project(features[begin:end])
            scores.append(self._of_chunk(context, texts[begin:end]))
        return torch.cat(scores)

    def _of_chunk(self, context: ImageContext, texts: Sequence[Sequence[str]]) -> Tensor:
        encoded = [self._tokenizer.encode_batch(list(of_image)) for of_image in texts]
        # Texts of similar lengths are read together, so that few columns are padding.
        lengths = [max(len(each.ids) for each in column) for column in zip(*encoded, strict=True)]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        scores = torch.empty(len(texts), len(lengths), device=self._device)
        while order:
            most = max(1, COLUMNS // lengths[order[-1]])
            group, order = order[-most:], order[:-most]
            tokens, valid = self._tokens([[row[n] for n in group] for row in encoded])
            scores[:, torch.tensor(group, device=self._device)] = self._read(tokens, valid, context)
        return scores

    def _tokens(self, encoded: Sequence[Sequence[Encoding]]) -> tuple[Tensor, Tensor]:
        """Return token ids [images, texts, tokens], and which of them are not padding."""
        longest = max(len(each.ids) for row in encoded for each in row)
        longest = min(longest, self._positions)
        ids = [[[*each.ids, *[0] * longest][:longest] for each in row] for row in encoded]
        lengths = torch.tensor([[len(each.ids) for each in row] for row in encoded])
        valid = torch.arange(longest) < lengths[..., None]
        return torch.tensor(ids, device=self._device), valid.to(self._device)

    def _read(self, tokens: Tensor, valid: Tensor, context: ImageContext) -> Tensor:
        """Return the scores [images, texts] of token ids [images, texts, tokens]."""
        images, texts, length = tokens.shape
        table = self._embeddings
        hidden = embedding(tokens, table.words) + table.positions[:length]
        hidden = self._embeddings_norm(hidden).flatten(1, 2)  # [images, texts * tokens, width]
        mask = valid.flatten(0, 1)[:, None, None]
        for number, layer in enumerate(self._layers):
            attended = self._self_attention(layer, hidden, mask)
            hidden = layer.attention_norm.of_sum(layer.attention_output, attended, hidden)
            query = layer.cross_query(hidden)
            query = query.view(images, texts * length, self._heads, -1).transpose(1, 2)
            attended = context.attend(number, query).transpose(1, 2).flatten(2)
            hidden = layer.cross_norm.of_sum(layer.cross_output, attended, hidden)
            hidden = layer.mlp_norm.of_sum(layer.mlp.down, layer.mlp.up(hidden), hidden)
        first = hidden.view(images, texts, length, -1)[:, :, 0]
        logits = self._head(first.contiguous()).float()
        return logits[..., 1] - logits[..., 0]

    def _self_attention(self, layer: TextLayer, hidden: Tensor, mask: Tensor) -> Tensor:
        """Let each token attend to all tokens of its text."""
        texts, _, _, length = mask.shape
        qkv = layer.qkv(hidden).view(texts, length, 3, self._heads, -1)
        query, keys, values = qkv.permute(2, 0, 3, 1, 4)
        attended = self._attend(query, keys, values, mask)
        return attended.transpose(1, 2).reshape(hidden.shape)
