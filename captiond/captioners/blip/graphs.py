"""Token steps as CUDA graphs: captured once for a batch size, then replayed.

A token step of BLIP is about three hundred kernels, most of which run for less time than the host
takes to launch them. A CUDA graph launches all of them at once, but its shapes and its memory are
fixed. So the number of images is rounded up to a power of two, the capacity for tokens to a
multiple of `LENGTHS`, and the position of the newest token is a number on the device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor

from captiond.captioners.blip.attention import MaskedAttention
from captiond.captioners.blip.cross import ImageContext, KeysValues, first_rows
from captiond.captioners.blip.forward import Forward, rows_of

log = structlog.get_logger()
LENGTHS = 32  # the capacity for tokens is a multiple of this
WARM_UPS = 3  # runs before a capture, in which libraries choose kernels and allocate memory
SHRINK_BELOW = 0.5  # so that the images that stay fit into the next smaller graph
Run = Callable[[], None]
Capture = Callable[[Run], Run]  # returns a function that does the same, with less launch overhead


@dataclass(frozen=True, slots=True)
class DevicePosition:
    """The position of one token of each text, known to the device only: int64 [1]."""

    position: Tensor
    attention: MaskedAttention

    def rows(self, table: Tensor) -> Tensor:
        return table[self.position]

    def self_attention(
        self, query: Tensor, keys: Tensor, values: Tensor, cache: KeysValues
    ) -> Tensor:
        for cached, new in zip(cache, (keys, values), strict=True):
            cached.index_copy_(2, self.position, new)
        positions = torch.arange(cache[0].shape[2], device=query.device)
        mask = (positions <= self.position)[None, None, None]
        return self.attention(query, *cache, mask)


@dataclass(frozen=True, slots=True)
class CapturedStep:
    """A token step for a number of images, beams and tokens. It reads `tokens`, writes `logits`."""

    tokens: Tensor  # [images, beams]
    logits: Tensor  # [images * beams, vocabulary]
    replay: Run


@dataclass(slots=True)
class GraphState:
    """The state of a batch, as `forward.EagerState`; its memory belongs to the graphs."""

    graphs: "Graphs"
    images: int
    beams: int
    context: ImageContext
    cache: list[KeysValues]
    length: int

    def step(self, tokens: Tensor) -> Tensor:
        step = self.graphs.step_for(self.images, self.beams, self.context, self.cache)
        step.tokens[: self.images] = tokens
        step.replay()
        self.graphs.position.add_(1)
        self.length += 1
        return step.logits[: self.images * self.beams]

    def select_images(self, images: Tensor) -> None:
        self.select_rows(rows_of(images, self.beams))
        for memory in self.context.memory:
            memory[: len(images)] = memory[images]
        self.images = len(images)

    def select_rows(self, rows: Tensor) -> None:
        for memory in flattened(self.cache):
            valid = memory[:, :, : self.length]
            valid[: len(rows)] = valid[rows]


class Graphs:
    """A `Forward` whose token steps are captured. It decodes one batch at a time.

    All graphs share their memory, which is as large as the largest batch so far needed. A larger
    batch allocates new memory, and its steps are captured again.
    """

    shrink_below = SHRINK_BELOW

    def __init__(self, forward: Forward, capture: Capture, device: torch.device) -> None:
        self._forward, self._capture = forward, capture
        self._steps: dict[tuple[int, int, int], CapturedStep] = {}
        self._cache: Tensor | None = None  # keys and values of self-attention, flat
        self._logits: Tensor | None = None  # [rows, vocabulary]
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of the newest token
        self.encode = forward.encode

    @property
    def positions(self) -> int:
        return self._forward.positions

    def prefill(
        self, features: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[GraphState, Tensor]:
        """Read the prompt, as `Forward.prefill` does."""
        images, capacity = len(features), filled_up(len(features))
        length = rounded_up(len(prompt) + new_tokens, LENGTHS)
        context = self._context(features, beams, capacity)
        cache = self._empty_cache(features, capacity * beams, min(length, self.positions))
        logits = self._forward.read_prompt(prompt, first_rows(cache, images), context.first(images))
        state = GraphState(self, images, beams, context, cache, len(prompt))
        if beams > 1:
            state.select_rows(torch.arange(images, device=features.device).repeat_interleave(beams))
        self.position.fill_(len(prompt))
        return state, logits

    def release_buffers(self) -> None:
        """Release all memory. The next batch allocates its own, and captures its steps again."""
        self._steps.clear()
        self._cache = self._logits = None
        self._forward.release_buffers()

    def step_for(
        self, images: int, beams: int, context: ImageContext, cache: list[KeysValues]
    ) -> CapturedStep:
        """Return a step for at least so many images; the first call for a size captures it."""
        images = filled_up(images)
        key = (images, beams, cache[0][0].shape[2])
        if key not in self._steps:
            rows = first_rows(cache, images * beams)
            self._steps[key] = self._captured(context.first(images), rows)
        return self._steps[key]

    def _captured(self, context: ImageContext, cache: list[KeysValues]) -> CapturedStep:
        """Capture a step. It runs at the newest token's position, which the first replay
        overwrites.
        """
        images, rows = context.images, len(cache[0][0])
        position = DevicePosition(self.position, self._forward.text_attention)
        tokens = torch.zeros(
            (images, rows // images), dtype=torch.int64, device=self.position.device
        )
        logits = self._logits_like(self._forward.read(tokens, position, cache, context))

        def run() -> None:
            logits.copy_(self._forward.read(tokens, position, cache, context))

        return CapturedStep(tokens, logits, self._capture(run))

    def _context(self, features: Tensor, beams: int, capacity: int) -> ImageContext:
        cross_attention = self._forward.cross_attention
        before = cross_attention.capacities
        context = cross_attention.context_in_place(features, beams, capacity=capacity)
        if cross_attention.capacities != before:  # a buffer has moved
            self._steps.clear()
        return context

    def _empty_cache(self, features: Tensor, rows: int, length: int) -> list[KeysValues]:
        """Return keys and values of self-attention for each layer, all zero.

        Positions behind a text's end count with weight zero, and zero times infinity would not be a
        number. The memory holds one row after the other, so the first rows have the same addresses
        however many rows there are.
        """
        layers, heads, width = self._forward.text_shape
        shape = (rows, layers, 2, heads, length, width)
        size = math.prod(shape)
        if self._cache is None or len(self._cache) < size:
            self._cache = None  # release it before the larger one is allocated
            self._steps.clear()
            self._cache = features.new_empty(size)
        of_layers = self._cache[:size].zero_().view(shape).unbind(1)
        return [(keys, values) for keys, values in (layer.unbind(1) for layer in of_layers)]

    def _logits_like(self, logits: Tensor) -> Tensor:
        """Return a buffer for as many logits."""
        if self._logits is None or len(self._logits) < len(logits):
            self._steps.clear()
            self._logits = torch.empty_like(logits)
        return self._logits[: len(logits)]


def flattened(layers: list[KeysValues]) -> list[Tensor]:
    return [memory for keys_values in layers for memory in keys_values]


def rounded_up(number: int, to: int) -> int:
    """Return the next multiple of `to`."""
    return -(-number // to) * to


def filled_up(images: int) -> int:
    """Return the next power of two."""
    return 1 << (images - 1).bit_length()


class CudaCapture:
    """Captures graphs on one device. They share their memory, as they run one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda: Any = torch.cuda
        self._device = device
        self._warming = self._cuda.Stream(device)
        self._pool = self._cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        """Run a function a few times, and return its graph; or the function, if capturing fails."""
        with self._cuda.device(self._device):
            self._warm_up(run)
            return self._captured(run)

    def _warm_up(self, run: Run) -> None:
        self._warming.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(self._warming):
            for _ in range(WARM_UPS):
                run()
        self._cuda.current_stream().wait_stream(self._warming)

    def _captured(self, run: Run) -> Run:
        graph, stream = self._cuda.CUDAGraph(), self._cuda.current_stream()
        try:
            with self._cuda.graph(graph, pool=self._pool):
                run()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("no_cuda_graph", reason=str(error))
            return run
        finally:
            self._cuda.set_stream(stream)  # a failed capture does not restore it
        replay: Run = graph.replay
        return replay
