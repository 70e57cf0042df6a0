"""Scaled dot-product attention, softmax(Q Kᵀ / √d) V, by the fastest way of each device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from captiond.captioners.choices import AttentionWay
from captiond.captioners.linear import has_onednn, product

# From this many tokens on, one oneDNN call for each head is faster than the fused kernel.
MANY_TOKENS = 200
PLANNED = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
# of query, keys and values, each [rows, heads, tokens, head width]


class MaskedAttention(Protocol):
    """Attention that takes a mask, bool [rows, heads, queries, keys]: True for keys that count."""

    def __call__(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor: ...


def plain(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute attention as two products with a softmax between them."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(-1, -2))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.matmul(scores.softmax(-1), values)


def fused(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute attention by torch's fused kernel."""
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask)


@contextmanager
def planned() -> Iterator[None]:
    """Let `fused` use cuDNN in this block, where cuDNN has a kernel for the operands.

    It is the fastest on a GPU (docs/benchmarks.md), but it makes a plan for each shape, which takes
    long. So it is for shapes that come again and again: those of CUDA graphs.
    """
    with sdpa_kernel(PLANNED, set_priority=True):
        yield


def by_head(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute attention head by head with oneDNN, so that the scores of a head stay in the caches.

    Few tokens go to the fused kernel.
    """
    rows, heads, tokens, width = query.shape
    if tokens < MANY_TOKENS:
        return fused(query, keys, values)
    query, keys, values = (operand.contiguous() for operand in (query, keys, values))
    query = query * width**-0.5
    attended = query.new_empty(rows, tokens, heads, width)
    for row in range(rows):
        for head in range(heads):
            scores = product(query[row, head], keys[row, head])
            attended[row, :, head] = product(scores.softmax(-1), values[row, head].t())
    return attended.transpose(1, 2)


def attend_newest(
    query: Tensor, key: Tensor, value: Tensor, cache: tuple[Tensor, Tensor], position: Tensor
) -> Tensor:
    """Let the newest token of each text attend to the text up to itself.

    Query, key and value are [texts, heads, 1, head width]. The key and the value are written into
    the cache at `position`, int64 [1], which is known to the device only.
    """
    for cached, new in zip(cache, (key, value), strict=True):
        cached.index_copy_(2, position, new)
    positions = torch.arange(cache[0].shape[2], device=query.device)
    mask = (positions <= position)[None, None, None]
    return for_text(query.device)(query, *cache, mask)


def for_images(way: AttentionWay, dtype: torch.dtype, device: torch.device) -> Attention:
    """Return the attention for many queries that was chosen, where the device has it."""
    onednn = device.type == "cpu" and has_onednn(dtype)
    return by_head if onednn and way == "heads" else fused


def for_text(device: torch.device) -> MaskedAttention:
    """Return the fastest attention for one query or a few, and many keys."""
    return plain if device.type == "cpu" else fused


def causal(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute attention in which each query attends to the keys up to its own position."""
    return scaled_dot_product_attention(query, keys, values, is_causal=True)
