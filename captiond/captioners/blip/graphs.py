"""Token steps as CUDA graphs: captured once for a batch size, then replayed.

A token step of BLIP is about three hundred kernels, most of which run for less time than the host
takes to launch them. A CUDA graph launches all of them at once, but its shapes and its memory are
fixed. So the number of images is rounded up to a power of two, the capacity for tokens to a
multiple of `LENGTHS`, and the position of the newest token is a number on the device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captiond.captioners.blip import attention
from captiond.captioners.blip.capture import Capture, Run
from captiond.captioners.blip.cross import ImageContext, first_rows
from captiond.captioners.blip.encoder_graphs import CapturedEncoder, filled_up
from captiond.captioners.blip.forward import Forward, rows_of
from captiond.captioners.blip.keys_values import KeysValues

LENGTHS = 32  # the capacity for tokens is a multiple of this
SHORT_PROMPT = 4  # tokens
SHRINK_BELOW = 0.5  # so that the images that stay fit into the next smaller graph
AttendNewest = Callable[[Tensor, Tensor, Tensor, KeysValues, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class DevicePosition:
    """The position of one token of each text, known to the device only: int64 [1]."""

    position: Tensor
    attend: AttendNewest

    def rows(self, table: Tensor) -> Tensor:
        return table[self.position]

    def self_attention(
        self, query: Tensor, keys: Tensor, values: Tensor, cache: KeysValues
    ) -> Tensor:
        return self.attend(query, keys, values, cache, self.position)


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

    def __init__(
        self, forward: Forward, encoder: CapturedEncoder, capture: Capture, device: torch.device
    ) -> None:
        self._forward, self._capture = forward, capture
        self._steps: dict[tuple[int, int, int], CapturedStep] = {}
        self._cache: Tensor | None = None  # keys and values of self-attention, flat
        self._logits: Tensor | None = None  # [rows, vocabulary]
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of the newest token
        self._attend = attention.attend_newest
        if forward.kernels is not None:
            self._attend = forward.kernels.attend_newest
        self.encode = encoder

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
        if beams == 1 and len(prompt) <= SHORT_PROMPT:
            return self._prefill_by_steps(prompt, images, context, cache)
        logits = self._forward.read_prompt(prompt, first_rows(cache, images), context.first(images))
        state = GraphState(self, images, beams, context, cache, len(prompt))
        if beams > 1:
            state.select_rows(torch.arange(images, device=features.device).repeat_interleave(beams))
        self.position.fill_(len(prompt))
        return state, logits

    def _prefill_by_steps(
        self, prompt: Tensor, images: int, context: ImageContext, cache: list[KeysValues]
    ) -> tuple[GraphState, Tensor]:
        """Read a short prompt token by token: captured steps start sooner than one pass."""
        state = GraphState(self, images, 1, context, cache, 0)
        self.position.zero_()
        for token in prompt:
            logits = state.step(token.expand(images, 1))
        return state, logits

    def release_buffers(self) -> None:
        """Release all memory. The next batch allocates its own, and captures its steps again."""
        self._steps.clear()
        self._cache = self._logits = None
        self.encode.release_buffers()
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
        position = DevicePosition(self.position, self._attend)
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


def captured(forward: Forward, capture: Capture, device: torch.device) -> Graphs:
    """Return a forward pass whose encoder and token steps are captured."""
    return Graphs(forward, CapturedEncoder(forward, capture), capture, device)
