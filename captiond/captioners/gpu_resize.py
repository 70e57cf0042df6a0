"""Resizes the images of a batch on a GPU, to the same pixels that Pillow makes of them.

To resize a photograph takes a decoder half of its time. A GPU resizes 256 of them in 17 ms,
which includes the copies from the host (docs/benchmarks.md, "On a GPU").
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captiond.captioners import resize_kernel
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.resampling import Integers, PixelWeights, columns_first, weights

CHUNK = 32  # images that are resized at a time
CHECKED_SIZES = ((640, 480), (300, 1000), (800, 800), (1000, 300), (700, 500))


class ResizeDiffersError(Exception):
    """The GPU has computed other pixels than Pillow."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass does with one image. Places and lengths are in bytes; the kernel reads them.

    `last` is the number of the last old pixel or row. The weights are those of a row's pixels if
    the pass goes across, and else those of the rows.
    """

    source: int
    target: int
    old_row: int
    new_row: int
    rows: int
    last: int
    across: bool
    weights: PixelWeights


class GpuResizer:
    """Resizes batches of at most `images` images, each of which stays whole by the geometry."""

    def __init__(self, device: torch.device, geometry: Geometry, images: int) -> None:
        self.geometry, self.images = geometry, images
        self._device = device

        def allocated(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.uint8, device=device)

        self._old, self._between = (allocated(CHUNK * geometry.whole_bytes) for _ in range(2))
        self._pixels = allocated(images, *geometry.shape)

    def __call__(self, images: Sequence[Pixels]) -> Tensor:
        """Return uint8 [images, height, width, 3], which the next call overwrites.

        The images are [height, width, 3] each, of any size that fits. When this returns, they are
        not read any more.
        """
        if len(images) > self.images:  # the kernel would write beyond the end
            raise ValueError(f"there are {len(images)} images, and memory for {self.images}")
        chunks = [images[begin : begin + CHUNK] for begin in range(0, len(images), CHUNK)]
        passes = [self._passes(chunk) for chunk in chunks]
        numbers, places = packed(passes)
        on_device = torch.from_numpy(numbers).to(self._device)
        for number, chunk in enumerate(chunks):
            self._copy(chunk)
            ends = self._old, self._between, self._pixels[number * CHUNK :]
            for which, (source, target) in enumerate(pairwise(ends)):
                each = passes[number][which]
                resize_kernel.resize(
                    on_device, places[number][which], len(each),
                    max(one.rows for one in each), max(one.new_row for one in each),
                    source, target,
                )  # fmt: skip
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return self._pixels[: len(images)]

    def _copy(self, images: Sequence[Pixels]) -> None:
        """Copy the images of a chunk to the device. Nobody waits if their memory is pinned."""
        for number, image in enumerate(images):
            flat, begin = torch.from_numpy(image.reshape(-1)), number * self.geometry.whole_bytes
            self._old[begin : begin + len(flat)].copy_(flat, non_blocking=True)

    def _passes(self, images: Sequence[Pixels]) -> tuple[list[Pass], list[Pass]]:
        """Return what the first and the second pass do with the images of a chunk."""
        pairs = [self._both(image.shape, number) for number, image in enumerate(images)]
        return [first for first, _ in pairs], [second for _, second in pairs]

    def _both(self, shape: tuple[int, ...], number: int) -> tuple[Pass, Pass]:
        """Return the passes for an image [height, width, 3], the one with this number."""
        geometry, place = self.geometry, number * self.geometry.whole_bytes
        height, width, _ = shape
        new = number * geometry.bytes
        row_weights = weights(width, geometry.width, geometry.resample)
        column_weights = weights(height, geometry.height, geometry.resample)
        old_row, new_row, rows = 3 * width, 3 * geometry.width, geometry.height
        if columns_first(width, height, geometry):
            down = Pass(place, place, old_row, old_row, rows, height - 1, False, column_weights)
            across = Pass(place, new, old_row, new_row, rows, width - 1, True, row_weights)
            return down, across
        across = Pass(place, place, old_row, new_row, height, width - 1, True, row_weights)
        down = Pass(place, new, new_row, new_row, rows, height - 1, False, column_weights)
        return across, down


def packed(
    chunks: Iterable[tuple[list[Pass], list[Pass]]],
) -> tuple[Integers, list[tuple[int, int]]]:
    """Return the numbers of all passes and weights in one array, and where those of each pass are.

    One array is copied to a device in one go. Images of one size share their weights.
    """
    pairs = list(chunks)
    length = sum(len(passes) for pair in pairs for passes in pair) * resize_kernel.FIELDS
    parts: list[Integers] = []
    known: dict[PixelWeights, tuple[int, int]] = {}
    for each in (one.weights for pair in pairs for passes in pair for one in passes):
        if each not in known:
            known[each] = length, length + len(each.firsts)
            length += len(each.firsts) + each.factors.size
            parts += [each.firsts, each.factors.reshape(-1)]
    lines = [line(one, *known[one.weights]) for pair in pairs for both in pair for one in both]
    places: list[tuple[int, int]] = []
    begin = 0
    for first, second in pairs:
        middle = begin + len(first) * resize_kernel.FIELDS
        places.append((begin, middle))
        begin = middle + len(second) * resize_kernel.FIELDS
    return np.concatenate([np.array(lines, np.int32).reshape(-1), *parts]), places


def line(one: Pass, firsts: int, factors: int) -> tuple[int, ...]:
    """Return the `FIELDS` of a pass, whose weights are at these places."""
    return (
        one.source, one.target, one.old_row, one.new_row, one.rows, one.last, one.across,
        firsts, factors, one.weights.taps,
    )  # fmt: skip


def check(resizer: GpuResizer) -> None:
    """Compare some images with what Pillow makes of them. A batch may be smaller than these.

    Raises:
        ResizeDiffersError: there is a difference, or no image is small enough to be compared.
    """
    numbers, geometry = np.random.default_rng(0), resizer.geometry
    sizes = [size for size in CHECKED_SIZES if geometry.stays_whole(*size)]
    if not sizes:
        raise ResizeDiffersError("there is too little memory for an image that is compared")
    images = [numbers.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
    for begin in range(0, len(images), resizer.images):
        compare(resizer, images[begin : begin + resizer.images])


def compare(resizer: GpuResizer, images: Sequence[Pixels]) -> None:
    geometry = resizer.geometry
    size, filter_ = (geometry.width, geometry.height), Image.Resampling(geometry.resample)
    for image, ours in zip(images, resizer(images).cpu().numpy(), strict=True):
        if not np.array_equal(ours, np.asarray(Image.fromarray(image).resize(size, filter_))):
            raise ResizeDiffersError(f"the pixels of an image of shape {image.shape} differ")
