"""BLIP's vision transformer: normalized pixels in, image features out."""

from typing import Any

import torch
from torch import Tensor

from captiond.captioners.blip import attention
from captiond.captioners.blip.cross import Block
from captiond.captioners.blip.layers import VisionLayer, vision_layer
from captiond.captioners.blip.patches import PatchEmbeddings
from captiond.captioners.blip.weights import VisionWeights
from captiond.captioners.choices import AttentionWay
from captiond.captioners.linear import MakeLinear
from captiond.captioners.norm import MakeNorm
from captiond.captioners.quantization import unquantized


class VisionEncoder:
    """The vision transformer of a model, with its weights in the layout of `make`.

    Images go through it in chunks of `rows` patches, at least one image.
    """

    def __init__(
        self,
        model: VisionWeights,
        make: MakeLinear,
        norm: MakeNorm,
        *,
        rows: int,
        way: AttentionWay,
    ) -> None:
        config: Any = model.config
        vision: Block = model.vision_model
        self._attention = attention.for_images(way, model.dtype, model.device)
        self._heads = config.vision_config.num_attention_heads
        self._patch_embeddings = PatchEmbeddings(vision.embeddings, unquantized(make))
        self.patches: int = vision.embeddings.position_embedding.shape[1]
        self.chunk = max(1, rows // self.patches)
        self._layers = [vision_layer(layer, make, norm) for layer in vision.encoder.layers]
        self._norm = norm(vision.post_layernorm)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return image features [images, 1 + patches, width] of normalized pixels
        [images, 3, height, width].
        """
        return torch.cat([self.encode_chunk(chunk) for chunk in torch.split(pixels, self.chunk)])

    def encode_chunk(self, pixels: Tensor) -> Tensor:
        """Encode as `encode` does, all images at once."""
        hidden = self._patch_embeddings(pixels)  # [images, 1 + patches, width]
        normalized = self._layers[0].attention_norm(hidden)
        following = [*(layer.attention_norm for layer in self._layers[1:]), self._norm]
        for layer, next_norm in zip(self._layers, following, strict=True):
            # The last linear layer of each block adds the residual stream.
            attended = self._self_attention(layer, normalized)
            hidden, normalized = layer.mlp_norm.with_sum(layer.attention_output, attended, hidden)
            expanded = layer.mlp.up(normalized)
            hidden, normalized = next_norm.with_sum(layer.mlp.down, expanded, hidden)
        return normalized

    def _self_attention(self, layer: VisionLayer, hidden: Tensor) -> Tensor:
        images, patches, width = hidden.shape
        qkv = layer.qkv(hidden).view(images, patches, 3, self._heads, -1)
        # each [images, heads, patches, head width]
        query, keys, values = qkv.permute(2, 0, 3, 1, 4)
        attended = self._attention(query, keys, values)
        return attended.transpose(1, 2).reshape(images, patches, width)
