"""Continuous batching against batch by batch, on a CPU: would images that join at the next token
be captioned sooner?

python -m tools.joining [CLIENTS]

What an image's encoding and a token step of so many rows take is measured, with BLIP-base's shape;
the lengths of captions are those of the embedded model's scenes. So many clients, each of whom
posts the next image when it has its answer, are then played through in both ways. Printed: images a
second, and the mean wait.
"""

import heapq
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from transformers import AutoTokenizer, BlipForConditionalGeneration

from captiond.captioners.blip.captioner import CPU_ROWS
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.random_weights import SIDE, config_of
from captiond.captioners.files import EMBEDDED
from captiond.captioners.linear import linears
from tools.scenes.dataset import draw_sample
from tools.scenes.evaluation import EVALUATION_SEED

IMAGES, REPEATS = 400, 15


class Costs:
    """Seconds of an encoding, keys and values included, and of a token step by its rows."""

    def __init__(self, most: int) -> None:
        model = BlipForConditionalGeneration(config_of("base"))
        self._forward = Forward(model, linears("fp32", torch.device("cpu")), rows=CPU_ROWS)
        pixels = torch.randn(1, 3, SIDE, SIDE)
        seen = self._forward.encode(pixels)
        self.encode = seconds(lambda: self._forward.prefill(
            self._forward.encode(pixels), torch.tensor([1]), beams=1, new_tokens=2))  # fmt: skip
        self.step = {rows: self._step(seen, rows) for rows in range(1, most + 1)}

    def _step(self, seen: torch.Tensor, rows: int) -> float:
        room = 4 * REPEATS
        several, prompt = seen.expand(rows, -1, -1), torch.tensor([1])
        running, _ = self._forward.prefill(several, prompt, beams=1, new_tokens=room)
        tokens = torch.ones(rows, 1, dtype=torch.long)
        return seconds(lambda: running.step(tokens))


def seconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def lengths() -> Iterator[int]:
    """Tokens of one caption after the other, its end included."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["captiond/scenes"])
    for number in range(IMAGES):
        text = draw_sample(EVALUATION_SEED, number).caption
        yield len(tokenizer(text).input_ids) - 1


def batch_by_batch(costs: Costs, tokens: list[int], clients: int) -> tuple[float, float]:
    """All clients are in every batch; all have their answers when it ends. → rate, mean wait"""
    now = 0.0
    waits: list[float] = []
    for first in range(0, len(tokens), clients):
        batch = tokens[first : first + clients]
        took = len(batch) * costs.encode
        for step in range(max(batch)):
            took += costs.step[sum(length > step for length in batch)]
        now += took
        waits += [took] * len(batch)
    return len(tokens) / now, statistics.mean(waits)


def joining(costs: Costs, tokens: list[int], clients: int) -> tuple[float, float]:
    """An image is encoded and joins before the next token; it is answered when it ends."""
    now, steps = 0.0, 0
    waits: list[float] = []
    running: list[tuple[int, float]] = []  # by the step at which they end; when they were posted
    posted = [0.0] * clients
    coming = iter(tokens)
    while True:
        for since, length in zip(posted, islice(coming, len(posted)), strict=False):
            now += costs.encode
            heapq.heappush(running, (steps + length, since))
        posted = []
        if not running:
            return len(tokens) / now, statistics.mean(waits)
        now += costs.step[len(running)]
        steps += 1
        while running and running[0][0] <= steps:
            waits.append(now - heapq.heappop(running)[1])
            posted.append(now)


@torch.inference_mode()
def main(clients: int) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    costs, tokens = Costs(clients), list(lengths())
    one, all_ = costs.step[1] * 1000, costs.step[clients] * 1000
    sys.stdout.write(
        f"encoding {costs.encode * 1000:.0f} ms, a token step {one:.1f} ms of 1 row and {all_:.1f} "
        f"of {clients}; captions of {min(tokens)} to {max(tokens)} tokens, "
        f"{statistics.mean(tokens):.1f} in the mean\n"
    )
    for way in (batch_by_batch, joining):
        rate, wait = way(costs, tokens, clients)
        sys.stdout.write(f"{way.__name__:15} {rate:.3f} images/s, wait {wait:.2f} s\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
