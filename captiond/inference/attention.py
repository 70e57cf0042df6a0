"""Scaled dot-product attention, softmax(Q Kᵀ / √d) V, as the device does it best."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
# of queries, keys and values, each [rows, heads, tokens, head width]


def plain(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Product by product."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(-1, -2))
    return torch.matmul(scores.softmax(-1), values)


def fused(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return scaled_dot_product_attention(query, keys, values)


def for_images(dtype: torch.dtype, device: torch.device) -> Attention:
    """Of many queries: torch's fused kernel, which on a CPU has no quick product for bf16."""
    return plain if device.type == "cpu" and dtype == torch.bfloat16 else fused


def for_text(device: torch.device) -> Attention:
    """Of a query or a few, to many keys."""
    return plain if device.type == "cpu" else fused


def causal(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each query sees the keys up to its own."""
    return scaled_dot_product_attention(query, keys, values, is_causal=True)
