"""Triton kernels for a GPU: each replaces several kernels of torch that wait for memory.

They compute in fp32 and store in the type of their operands. `available` says whether Triton works
here. Without it torch's own kernels are used.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TEXT_BLOCK = 32  # tokens of a text that are read at a time
# Patches of an image that are read at a time, warps and stages: with many programs, and with few.
# The first is the fastest for 256 images, the second for one image (measured on an H100).
PATCHES_OF_MANY, PATCHES_OF_FEW = (32, 1, 3), (128, 8, 3)
MANY_PROGRAMS = 1024
QUERIES = 16  # that are computed at a time: the fewest rows of a product in tensor cores
DENSE_BLOCK, DENSE_WARPS = 4096, 4  # of a dense tensor


@triton.jit
def _layer_norm(
    x, residual, weight, bias, total, normalized, eps,
    width: tl.constexpr, block: tl.constexpr, adds: tl.constexpr, keeps: tl.constexpr,
):  # fmt: skip
    """Normalize one row of x + residual; with `keeps`, store the sum as well."""
    row = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row + columns, mask=inside, other=0.0).to(tl.float32)
    if adds:
        values += tl.load(residual + row + columns, mask=inside, other=0.0).to(tl.float32)
    if keeps:
        tl.store(total + row + columns, values, mask=inside)
    mean = tl.sum(values, 0) / width
    centered = tl.where(inside, values - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centered * centered, 0) / width + eps)
    factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normalized + row + columns, centered * scale * factor + offset, mask=inside)


@triton.jit
def _attend_newest(
    query, key, value, keys, values, position, attended,
    row_stride, cache_row_stride, cache_head_stride, scale,
    heads: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One head of one text: store the newest key and value, and attend to all up to the newest."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.arange(0, width)
    given = row * row_stride + head * width + columns
    cached = row * cache_row_stride + head * cache_head_stride
    newest = tl.load(position)
    asked = tl.load(query + given).to(tl.float32) * scale
    new_key, new_value = tl.load(key + given), tl.load(value + given)
    tl.store(keys + cached + newest * width + columns, new_key)
    tl.store(values + cached + newest * width + columns, new_value)
    # The newest token is taken from registers: other threads may not see what was just stored.
    greatest = tl.sum(asked * new_key.to(tl.float32), 0)
    weights, sums = tl.full([], 1.0, tl.float32), new_value.to(tl.float32)
    begin = newest * 0
    while begin < newest:
        tokens = begin + tl.arange(0, block)
        before = (tokens < newest)[:, None]
        places = cached + tokens[:, None] * width + columns[None, :]
        old_keys = tl.load(keys + places, mask=before, other=0.0).to(tl.float32)
        old_values = tl.load(values + places, mask=before, other=0.0).to(tl.float32)
        scores = tl.where(tokens < newest, tl.sum(old_keys * asked[None, :], 1), float("-inf"))
        greater = tl.maximum(greatest, tl.max(scores, 0))
        shrunk, shares = tl.exp(greatest - greater), tl.exp(scores - greater)
        weights = weights * shrunk + tl.sum(shares, 0)
        sums = sums * shrunk + tl.sum(shares[:, None] * old_values, 0)
        greatest = greater
        begin += block
    tl.store(attended + (row * heads + head) * width + columns, sums / weights)


@triton.jit
def _to_fp8(
    x, out, factor, count, block: tl.constexpr, gelu: tl.constexpr,
):  # fmt: skip
    """Store factor * x as FP8; with `gelu`, factor * gelu(x)."""
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < count
    values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    if gelu:
        values = 0.5 * values * (1.0 + tl.erf(values * 0.7071067811865476))
    values = tl.minimum(tl.maximum(values * factor, -448.0), 448.0)
    tl.store(out + places, values.to(tl.float8e4nv), mask=inside)


@triton.jit
def _attend_fp8(
    query, keys, values, attended, columns,
    query_image, query_head, query_column, image_stride, head_stride, token_stride,
    score_factor, value_factor,
    heads: tl.constexpr, tokens: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
    rows: tl.constexpr,
):  # fmt: skip
    """One head of one image: let a group of queries attend to all patches of the image."""
    image, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * rows + tl.arange(0, rows)
    lane = tl.arange(0, width)
    asked_at = image * query_image + head * query_head + column[:, None] * query_column + lane
    asked = tl.load(query + asked_at, mask=(column < columns)[:, None], other=0.0).to(tl.float16)
    of_head = image * image_stride + head * head_stride
    greatest = tl.full([rows], float("-inf"), tl.float32)
    weights = tl.zeros([rows], tl.float32)
    sums = tl.zeros([rows, width], tl.float32)
    for begin in range(0, tokens, block):
        token = begin + tl.arange(0, block)
        there = token < tokens
        places = of_head + token[:, None] * token_stride + lane[None, :]
        key = tl.load(keys + places, mask=there[:, None], other=0.0).to(tl.float16)
        value = tl.load(values + places, mask=there[:, None], other=0.0).to(tl.float16)
        scores = tl.dot(asked, tl.trans(key)) * score_factor
        scores = tl.where(there[None, :], scores, float("-inf"))
        greater = tl.maximum(greatest, tl.max(scores, 1))
        shrunk, shares = tl.exp(greatest - greater), tl.exp(scores - greater[:, None])
        weights = weights * shrunk + tl.sum(shares, 1)
        sums = sums * shrunk[:, None] + tl.dot(shares.to(tl.float16), value)
        greatest = greater
    result = sums / weights[:, None] * value_factor
    stored_at = ((image * columns + column[:, None]) * heads + head) * width + lane
    tl.store(attended + stored_at, result, mask=(column < columns)[:, None])


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype | None = None
) -> Tensor:
    """Normalize the last dimension of x, which is dense. The result is a `dtype`, or as x."""
    normalized = torch.empty_like(x, dtype=dtype)
    _run_layer_norm(x, None, weight, bias, eps, None, normalized)
    return normalized


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Return x + residual, and the same normalized, as a `dtype`. Both operands are dense."""
    total, normalized = torch.empty_like(x), torch.empty_like(x, dtype=dtype)
    _run_layer_norm(x, residual, weight, bias, eps, total, normalized)
    return total, normalized


def layer_norm_of_sum(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Return x + residual, normalized. Both operands are dense."""
    normalized = torch.empty_like(x)
    _run_layer_norm(x, residual, weight, bias, eps, None, normalized)
    return normalized


def _run_layer_norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    total: Tensor | None,
    normalized: Tensor,
) -> None:
    width = x.shape[-1]
    _layer_norm[(x.numel() // width,)](
        x, residual, weight, bias, total, normalized, eps,
        width=width, block=triton.next_power_of_2(width),
        adds=residual is not None, keeps=total is not None, num_warps=2,
    )  # fmt: skip


def attend_newest(
    query: Tensor, key: Tensor, value: Tensor, cache: tuple[Tensor, Tensor], position: Tensor
) -> Tensor:
    """Let the newest token of each text attend to the text up to itself.

    Query, key and value are [texts, heads, 1, head width], views of one tensor whose heads lie side
    by side. The key and the value are written into the cache, [texts, heads, tokens, head width]
    each, at `position`, int64 [1]. The result is as the query.
    """
    texts, heads, _, width = query.shape
    attended = query.new_empty(texts, 1, heads, width)
    keys, values = cache
    _attend_newest[(texts, heads)](
        query, key, value, keys, values, position, attended,
        query.stride(0), keys.stride(0), keys.stride(1), width**-0.5,
        heads=heads, width=width, block=TEXT_BLOCK, num_warps=1,
    )  # fmt: skip
    return attended.transpose(1, 2)


def to_fp8(x: Tensor, out: Tensor, factor: float, activation: str) -> None:
    """Write activation(x) * factor, cut off at 448, to `out`, float8_e4m3fn. Both are dense."""
    _to_fp8[(triton.cdiv(x.numel(), DENSE_BLOCK),)](
        x, out, factor, x.numel(),
        block=DENSE_BLOCK, gelu=activation == "gelu", num_warps=DENSE_WARPS,
    )  # fmt: skip


def attend_fp8(query: Tensor, keys: Tensor, values: Tensor, factor: float) -> Tensor:
    """Let queries [images, heads, columns, head width] attend to all patches of their images.

    Keys and values are [images, heads, patches, head width], float8_e4m3fn, with the same strides;
    they are `factor` times too large. The result is as the query.
    """
    images, heads, columns, width = query.shape
    attended = query.new_empty(images, columns, heads, width)
    grid = images, heads, triton.cdiv(columns, QUERIES)
    many = images * heads * grid[2] >= MANY_PROGRAMS
    block, warps, stages = PATCHES_OF_MANY if many else PATCHES_OF_FEW
    _attend_fp8[grid](
        query, keys, values, attended, columns,
        *query.stride()[:3], *keys.stride()[:3],
        width**-0.5 / factor, 1 / factor,
        heads=heads, tokens=keys.shape[2], width=width, block=block, rows=QUERIES,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return attended.transpose(1, 2)
