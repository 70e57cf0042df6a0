"""The vision encoder as CUDA graphs: images go through it in chunks of a few fixed sizes."""

import torch
from torch import Tensor

from captiond.captioners.blip.capture import Capture, Run
from captiond.captioners.blip.forward import Forward

LARGEST_CHUNK = 64  # images; larger chunks are not faster (measured on an H200)
FILL_FROM = 0.75  # a chunk is filled up with other pixels if its images are this part of it


class CapturedEncoder:
    """The encoder of a `Forward`, captured for chunks of 1, 2, 4 … images."""

    def __init__(self, forward: Forward, capture: Capture) -> None:
        self._forward, self._capture = forward, capture
        self._largest = min(LARGEST_CHUNK, filled_up(forward.chunk + 1) // 2)
        self._chunks: dict[int, Run] = {}
        self._pixels: Tensor | None = None  # what graphs read: [largest chunk, ...]
        self._features: Tensor | None = None  # what they write: [largest chunk, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode as `Forward.encode` does."""
        encoded, begin = [], 0
        for size in chunk_sizes(len(pixels), self._largest):
            chunk = pixels[begin : begin + size]
            encoded.append(self._encode(chunk, size)[: len(chunk)].clone())
            begin += size
        return torch.cat(encoded) if len(encoded) > 1 else encoded[0]

    def release_buffers(self) -> None:
        """Release all memory. The next batch allocates its own, and captures its chunks again."""
        self._chunks.clear()
        self._pixels = self._features = None

    def _encode(self, pixels: Tensor, size: int) -> Tensor:
        """Encode at most `size` images, and return as many features, in memory of the graphs."""
        if self._pixels is None:
            self._pixels = pixels.new_zeros(self._largest, *pixels.shape[1:])
        self._pixels[: len(pixels)] = pixels
        if size not in self._chunks:
            self._chunks[size] = self._captured(self._pixels[:size])
        self._chunks[size]()
        assert self._features is not None  # a capture has allocated it
        return self._features[:size]

    def _captured(self, pixels: Tensor) -> Run:
        encoded = self._forward.encode_chunk(pixels)
        if self._features is None:
            self._features = encoded.new_zeros(self._largest, *encoded.shape[1:])
        features = self._features[: len(pixels)]

        def run() -> None:
            features.copy_(self._forward.encode_chunk(pixels))

        return self._capture(run)


def chunk_sizes(images: int, largest: int) -> list[int]:
    """Return sizes of chunks that hold so many images: powers of two, at most `largest`.

    Only the last chunk can have more places than images.
    """
    sizes = [largest] * (images // largest)
    rest = images % largest
    while rest:
        size = filled_up(rest)
        if rest < FILL_FROM * size:
            size //= 2
        sizes.append(size)
        rest = max(0, rest - size)
    return sizes


def filled_up(images: int) -> int:
    """Return the next power of two."""
    return 1 << (images - 1).bit_length()
