"""BLIP as two modules that every runtime can take: one for an image, and one for a token.

The weights and the small layers are those of transformers. All shapes are fixed for a batch size,
because compilers make the fastest code for fixed shapes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.random_weights import END, LOWEST, config_of

TOKENS = 19  # new ones of each caption


def new_model() -> BlipForConditionalGeneration:
    """Return a model of BLIP-base's shape; its random weights are the same in each call."""
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config_of("base"))
    decoder: Any = model.text_decoder
    decoder.cls.predictions.decoder.bias.data[END] = LOWEST
    model.train(mode=False)
    return model


class ImagePart(nn.Module):
    """The vision encoder, and the keys and values of cross-attention."""

    vision: Any
    projections: Any
    heads: int

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model
        layers = model.text_decoder.bert.encoder.layer
        attentions = [layer.crossattention.self for layer in layers]
        self.projections = nn.ModuleList(
            projection for each in attentions for projection in (each.key, each.value)
        )
        self.heads = attentions[0].num_attention_heads

    def forward(self, pixels: Tensor) -> Tensor:
        """Return keys and values [2 * layers, images, heads, patches, head width]."""
        features = self.vision(pixel_values=pixels).last_hidden_state
        return torch.stack([split(layer(features), self.heads) for layer in self.projections])


class TokenPart(nn.Module):
    """One token of each text: from token ids to logits, with a cache of earlier tokens."""

    embeddings: Any
    layers: Any
    head: Any
    heads: int

    def __init__(self, model: Any) -> None:
        super().__init__()
        decoder = model.text_decoder
        self.embeddings, self.layers = decoder.bert.embeddings, decoder.bert.encoder.layer
        self.head = decoder.cls
        self.heads = self.layers[0].crossattention.self.num_attention_heads

    def forward(
        self, tokens: Tensor, position: Tensor, cache: Tensor, keys_values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits [images, vocabulary] and the cache with this token.

        `tokens` are [images], `position` is [1], and the cache is
        [2 * layers, images, heads, TOKENS, head width].
        """
        table = self.embeddings
        hidden = table.word_embeddings(tokens)[:, None] + table.position_embeddings(position)
        hidden = table.LayerNorm(hidden)
        places = torch.arange(TOKENS)
        newest, visible = (places == position)[:, None], places <= position
        written = []
        for number, layer in enumerate(self.layers):
            own = layer.attention.self
            query, key, value = (
                split(part(hidden), self.heads) for part in (own.query, own.key, own.value)
            )
            keys = torch.where(newest, key, cache[2 * number])
            values = torch.where(newest, value, cache[2 * number + 1])
            written += [keys, values]
            hidden = layer.attention.output(attend(query, keys, values, visible), hidden)
            query = split(layer.crossattention.self.query(hidden), self.heads)
            keys, values = keys_values[2 * number], keys_values[2 * number + 1]
            hidden = layer.crossattention.output(attend(query, keys, values), hidden)
            hidden = layer.output(layer.intermediate(hidden), hidden)
        logits: Tensor = self.head(hidden)[:, 0]
        return logits, torch.stack(written)

    def empty_cache(self, images: int) -> Tensor:
        width: int = self.layers[0].crossattention.self.attention_head_size
        return torch.zeros(2 * len(self.layers), images, self.heads, TOKENS, width)


def split(hidden: Tensor, heads: int) -> Tensor:
    """[images, tokens, width] → [images, heads, tokens, head width]"""
    images, tokens, width = hidden.shape
    return hidden.view(images, tokens, heads, width // heads).transpose(1, 2)


def attend(query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
    """Return attention with its heads side by side, [images, 1, width]."""
    scores = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    attended: Tensor = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
    return attended
