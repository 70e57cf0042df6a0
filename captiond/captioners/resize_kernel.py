"""A Triton kernel that resizes images of any sizes in a batch, one direction at a time."""

import triton
import triton.language as tl
from torch import Tensor

from captiond.decoding.resampling import PRECISION_BITS

FIELDS = 10  # numbers that describe what one pass does with one image; `gpu_resize` lists them
BLOCK = 512  # bytes of a new row that are computed at a time


@triton.jit
def _resize(
    numbers, passes_at, source, target,
    fields: tl.constexpr, block: tl.constexpr, bits: tl.constexpr,
):  # fmt: skip
    """Compute a part of one new row of one image: sums of old bytes with integer weights."""
    image, row, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    of_image = numbers + passes_at + image * fields
    source_at, target_at = tl.load(of_image), tl.load(of_image + 1)
    old_row, new_row = tl.load(of_image + 2), tl.load(of_image + 3)
    rows, last, across = tl.load(of_image + 4), tl.load(of_image + 5), tl.load(of_image + 6)
    firsts_at, factors_at, taps = (
        tl.load(of_image + 7), tl.load(of_image + 8), tl.load(of_image + 9)
    )  # fmt: skip
    byte = part * block + tl.arange(0, block)
    inside = (byte < new_row) & (row < rows)
    # Across, neighbours are pixels of 3 bytes of the same row; down, they are whole rows.
    number = tl.where(across != 0, byte // 3, row)
    begin = tl.where(across != 0, row * old_row + byte % 3, byte)
    step = tl.where(across != 0, 3, old_row)
    first = tl.load(numbers + firsts_at + number, mask=inside, other=0)
    factor = numbers + factors_at + number * taps
    total = tl.full([block], 1 << (bits - 1), tl.int32)
    tap = taps * 0
    while (tap < taps) & (row < rows):
        place = source_at + begin + tl.minimum(first + tap, last) * step
        old = tl.load(source + place, mask=inside, other=0).to(tl.int32)
        total += old * tl.load(factor + tap, mask=inside, other=0)
        tap += 1
    new = tl.minimum(tl.maximum(total >> bits, 0), 255)
    tl.store(target + target_at + row * new_row + byte, new.to(tl.uint8), mask=inside)


def resize(
    numbers: Tensor,
    passes_at: int,
    images: int,
    rows: int,
    row_bytes: int,
    source: Tensor,
    target: Tensor,
) -> None:
    """Run one pass for some images. New images have at most so many rows of so many bytes.

    `numbers` is int32, and has from `passes_at` on `FIELDS` numbers for each image.
    """
    grid = images, rows, triton.cdiv(row_bytes, BLOCK)
    _resize[grid](
        numbers, passes_at, source, target,
        fields=FIELDS, block=BLOCK, bits=PRECISION_BITS, num_warps=4,
    )  # fmt: skip
