"""Compare batch-by-batch captioning with continuous batching on a CPU, in a simulation.

python -m tools.joining [CLIENTS]

In continuous batching, a new image joins the running ones before the next token. The tool measures
how long the encoding of an image and a token step of 1 to CLIENTS rows take, with a model of
BLIP-base's shape. It then simulates CLIENTS clients, each of which sends its next image as soon as
it has an answer. The lengths of the captions are those of the embedded model's scenes. The tool
prints images per second and the mean waiting time.
"""

import heapq
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.captioner import CPU_ROWS
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.random_weights import SIDE, config_of
from captiond.captioners.files import EMBEDDED
from captiond.captioners.linear import linears
from tools.scenes.dataset import draw_sample
from tools.scenes.evaluation import EVALUATION_SEED

IMAGES, REPEATS = 400, 15


class Costs:
    """Measured times in seconds: `encode` of one image, and `step` of a token by its rows.

    The time of an image includes the keys and values of its cross-attention.
    """

    def __init__(self, max_rows: int) -> None:
        model = BlipForConditionalGeneration(config_of("base"))
        self._forward = Forward(model, linears("fp32", torch.device("cpu")), rows=CPU_ROWS)
        pixels = torch.randn(1, 3, SIDE, SIDE)
        hidden = self._forward.encode(pixels)
        self.encode = seconds(lambda: self._forward.prefill(
            self._forward.encode(pixels), torch.tensor([1]), beams=1, new_tokens=2))  # fmt: skip
        self.step = {rows: self._step(hidden, rows) for rows in range(1, max_rows + 1)}

    def _step(self, hidden: torch.Tensor, rows: int) -> float:
        images, prompt = hidden.expand(rows, -1, -1), torch.tensor([1])
        running, _ = self._forward.prefill(images, prompt, beams=1, new_tokens=4 * REPEATS)
        tokens = torch.ones(rows, 1, dtype=torch.long)
        return seconds(lambda: running.step(tokens))


def seconds(run: Callable[[], object]) -> float:
    """Return the median time of a call, in seconds."""
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def lengths() -> Iterator[int]:
    """Yield the number of tokens of each caption, with its end token."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["captiond/scenes"])
    for number in range(IMAGES):
        text = draw_sample(EVALUATION_SEED, number).caption
        yield len(tokenizer(text).input_ids) - 1


def batch_by_batch(costs: Costs, tokens: list[int], clients: int) -> tuple[float, float]:
    """Simulate batches of all clients. Each batch is answered when its longest caption is finished.

    Return images per second and the mean waiting time in seconds.
    """
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
    """Simulate images that join before the next token and are answered when they are finished.

    Return images per second and the mean waiting time in seconds.
    """
    now, steps = 0.0, 0
    waits: list[float] = []
    running: list[tuple[int, float]] = []  # a heap of (last step, time when the image was sent)
    sent = [0.0] * clients
    remaining = iter(tokens)
    while True:
        for since, length in zip(sent, islice(remaining, len(sent)), strict=False):
            now += costs.encode
            heapq.heappush(running, (steps + length, since))
        sent = []
        if not running:
            return len(tokens) / now, statistics.mean(waits)
        now += costs.step[len(running)]
        steps += 1
        while running and running[0][0] <= steps:
            waits.append(now - heapq.heappop(running)[1])
            sent.append(now)


@torch.inference_mode()
def main(clients: int) -> None:
    """Measure the times, run both simulations and print the results."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    costs, tokens = Costs(clients), list(lengths())
    one, all_ = costs.step[1] * 1000, costs.step[clients] * 1000
    sys.stdout.write(
        f"encoding {costs.encode * 1000:.0f} ms; a token step {one:.1f} ms with 1 row, "
        f"{all_:.1f} ms with {clients}; captions of {min(tokens)} to {max(tokens)} tokens, "
        f"mean {statistics.mean(tokens):.1f}\n"
    )
    for simulate in (batch_by_batch, joining):
        rate, wait = simulate(costs, tokens, clients)
        sys.stdout.write(f"{simulate.__name__:15} {rate:.3f} images/s, mean wait {wait:.2f} s\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
