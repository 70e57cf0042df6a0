"""Scaled dot-product attention, softmax(Q Kᵀ / √d) V, as the device does it best."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from captiond.captioners.linear import has_onednn, product

MANY_TOKENS = 200  # of a head, whose products are worth a call each
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
# of queries, keys and values, each [rows, heads, tokens, head width]


class Masked(Protocol):
    """Attention that may be told which keys count, bool [rows, heads, queries, keys]."""

    def __call__(
        self, query: Tensor, keys: Tensor, values: Tensor, counts: Tensor | None = None
    ) -> Tensor: ...


def plain(query: Tensor, keys: Tensor, values: Tensor, counts: Tensor | None = None) -> Tensor:
    """Product by product."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(-1, -2))
    if counts is not None:
        scores = scores.masked_fill(~counts, -torch.inf)
    return torch.matmul(scores.softmax(-1), values)


def fused(query: Tensor, keys: Tensor, values: Tensor, counts: Tensor | None = None) -> Tensor:
    return scaled_dot_product_attention(query, keys, values, attn_mask=counts)


def by_head(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Head by head with oneDNN's products, so that a head's scores stay in the caches."""
    rows, heads, tokens, width = query.shape
    if tokens < MANY_TOKENS:
        return fused(query, keys, values)
    query = query * width**-0.5
    found = query.new_empty(rows, tokens, heads, width)
    for row in range(rows):
        for head in range(heads):
            scores = product(query[row, head], keys[row, head])
            found[row, :, head] = product(scores.softmax(-1), values[row, head].t())
    return found.transpose(1, 2)


def for_images(dtype: torch.dtype, device: torch.device) -> Attention:
    """Of many queries: torch's fused kernel, but on a CPU its products are not the quickest."""
    onednn = device.type == "cpu" and has_onednn() and dtype != torch.float16
    return by_head if onednn else fused


def for_text(device: torch.device) -> Masked:
    """Of a query or a few, to many keys."""
    return plain if device.type == "cpu" else fused


def causal(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each query sees the keys up to its own."""
    return scaled_dot_product_attention(query, keys, values, is_causal=True)
