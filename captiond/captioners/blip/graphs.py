"""Token steps on a GPU: captured once for a batch size, then replayed.

A step of BLIP's decoder is some three hundred kernels, most of which take less time on the device
than the host takes to start them. A CUDA graph starts them all at once, but it is of fixed shapes
and fixed memory: batches are filled up to a power of two, a text has room for a multiple of tokens,
and where the newest token stands is a number on the device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor

from captiond.captioners.blip.attention import Masked
from captiond.captioners.blip.cross import Cross, KeysValues, first
from captiond.captioners.blip.forward import Forward, rows_of

log = structlog.get_logger()
LENGTHS = 32  # a text has room for a multiple of so many tokens
WARM_UPS = 3  # runs before a capture, in which libraries choose their kernels and take memory
KEEP = 0.5  # of a batch may still go on when the rest is dropped: it then fits a smaller graph
Run = Callable[[], None]
Capture = Callable[[Run], Run]  # what does the same as a function, sooner


@dataclass(frozen=True, slots=True)
class Spot:
    """One token of each text, at a place that only the device knows: `position`, int64 [1]."""

    position: Tensor
    look: Masked

    def rows(self, table: Tensor) -> Tensor:
        return table[self.position]

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, own: KeysValues) -> Tensor:
        for kept, new in zip(own, (keys, values), strict=True):
            kept.index_copy_(2, self.position, new)
        places = torch.arange(own[0].shape[2], device=query.device)
        return self.look(query, *own, (places <= self.position)[None, None, None])


@dataclass(frozen=True, slots=True)
class Steps:
    """A step for so many images, beams and tokens: it reads `tokens`, and writes `logits`."""

    tokens: Tensor  # [images, beams]
    logits: Tensor  # [images * beams, vocabulary]
    replay: Run


@dataclass(slots=True)
class Replayed:
    """A batch on its way, as `forward.Running`; its memory is that of the graphs."""

    graphs: "Graphs"
    images: int
    beams: int
    cross: Cross
    own: list[KeysValues]
    length: int

    def step(self, tokens: Tensor) -> Tensor:
        steps = self.graphs.steps(self.images, self.beams, self.cross, self.own)
        steps.tokens[: self.images] = tokens
        steps.replay()
        self.graphs.position.add_(1)
        self.length += 1
        return steps.logits[: self.images * self.beams]

    def select_images(self, images: Tensor) -> None:
        self.select_rows(rows_of(images, self.beams))
        for memory in self.cross.memory:
            memory[: len(images)] = memory[images]
        self.images = len(images)

    def select_rows(self, rows: Tensor) -> None:
        for memory in flattened(self.own):
            text = memory[:, :, : self.length]
            text[: len(rows)] = text[rows]


class Graphs:
    """A `Forward` whose token steps are captured. One batch at a time.

    All graphs share their memory, which is as much as the largest batch so far has needed; for a
    larger one, graphs are captured anew.
    """

    keep = KEEP

    def __init__(self, forward: Forward, capture: Capture, device: torch.device) -> None:
        self._forward, self._capture = forward, capture
        self._steps: dict[tuple[int, int, int], Steps] = {}
        self._own: Tensor | None = None  # keys and values of texts, all in a row
        self._logits: Tensor | None = None  # [rows, vocabulary]
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of the newest token
        self.encode = forward.encode

    @property
    def positions(self) -> int:
        return self._forward.positions

    def prefill(
        self, seen: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[Replayed, Tensor]:
        """As `Forward.prefill`."""
        images, room_for = len(seen), filled_up(len(seen))
        length = rounded_up(len(prompt) + new_tokens, LENGTHS)
        cross = self._cross(seen, beams, room_for)
        own = self._own_room(seen, room_for * beams, min(length, self.positions))
        logits = self._forward.read_prompt(prompt, first(own, images), cross.first(images))
        running = Replayed(self, images, beams, cross, own, len(prompt))
        if beams > 1:
            running.select_rows(torch.arange(images, device=seen.device).repeat_interleave(beams))
        self.position.fill_(len(prompt))
        return running, logits

    def forget(self) -> None:
        """Let go of all memory; the next batch takes its own, and graphs are captured anew."""
        self._steps.clear()
        self._own = self._logits = None
        self._forward.forget()

    def steps(self, images: int, beams: int, cross: Cross, own: list[KeysValues]) -> Steps:
        """Those for at least so many images, captured at the first call for their like."""
        images = filled_up(images)
        key = (images, beams, own[0][0].shape[2])
        if key not in self._steps:
            self._steps[key] = self._captured(cross.first(images), first(own, images * beams))
        return self._steps[key]

    def _captured(self, cross: Cross, own: list[KeysValues]) -> Steps:
        """It is run at the place of the newest token, which the first replay overwrites."""
        images, rows = cross.images, len(own[0][0])
        spot = Spot(self.position, self._forward.look)
        tokens = torch.zeros(
            (images, rows // images), dtype=torch.int64, device=self.position.device
        )
        logits = self._logits_room(self._forward.read(tokens, spot, own, cross))

        def run() -> None:
            logits.copy_(self._forward.read(tokens, spot, own, cross))

        return Steps(tokens, logits, self._capture(run))

    def _cross(self, seen: Tensor, beams: int, room_for: int) -> Cross:
        before = self._forward.cross.taken
        cross = self._forward.cross.in_place(seen, beams, room_for=room_for)
        if self._forward.cross.taken != before:  # it is other memory now
            self._steps.clear()
        return cross

    def _own_room(self, seen: Tensor, rows: int, length: int) -> list[KeysValues]:
        """Keys and values of texts, all zeros: what stands behind a text's end counts with weight
        zero, and zero times infinity is no number.

        The memory is one row after the other, so that the first rows stand where they stood,
        however many there are.
        """
        layers, heads, width = self._forward.text_shape
        shape = (rows, layers, 2, heads, length, width)
        numbers = math.prod(shape)
        if self._own is None or len(self._own) < numbers:
            self._own = None  # goes before the new one comes
            self._steps.clear()
            self._own = seen.new_empty(numbers)
        pairs = self._own[:numbers].zero_().view(shape).unbind(1)
        return [(keys, values) for keys, values in (pair.unbind(1) for pair in pairs)]

    def _logits_room(self, like: Tensor) -> Tensor:
        """Memory for as many logits."""
        if self._logits is None or len(self._logits) < len(like):
            self._steps.clear()
            self._logits = torch.empty_like(like)
        return self._logits[: len(like)]


def flattened(layers: list[KeysValues]) -> list[Tensor]:
    return [memory for both in layers for memory in both]


def rounded_up(number: int, to: int) -> int:
    return -(-number // to) * to


def filled_up(images: int) -> int:
    """The next power of two."""
    return 1 << (images - 1).bit_length()


class CudaCapture:
    """Captures on one device. The graphs share their memory: they are replayed one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda: Any = torch.cuda
        self._device = device
        self._warming = self._cuda.Stream(device)
        self._pool = self._cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        """A graph of `run`, which is run a few times; or `run` itself, where it has none."""
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
            self._cuda.set_stream(stream)  # which a failed capture leaves as it was
        replay: Run = graph.replay
        return replay
