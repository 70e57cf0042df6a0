"""Compare the speed of captiond with other runtimes on a CPU.

pip install openvino onnxruntime onnx
python -m tools.runtimes BATCH [RUNTIME...]

Each runtime captions the same pixels, from the vision encoder to the last of 19 tokens. The model
has BLIP-base's shape at 384 x 384 and random weights. In each round, every runtime captions a
batch. The table has the median time of an image in milliseconds, and the share of the tokens that
equal those of transformers' `generate`, up to the first one that differs. Runtimes that are not
installed are left out, and so is bf16 where the processor has no instructions for it. All runtimes
together take about 12 GB of memory; RUNTIME is captiond, transformers, compile, openvino or onnx.
"""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from captiond.captioners.blip.random_weights import SIDE
from tools.runtimes.ways import RUNTIMES, Caption, ways

ROUNDS = 3


@torch.inference_mode()
def milliseconds(captions: dict[str, Caption], pixels: Tensor) -> dict[str, float]:
    """Return the median time of an image in each runtime."""
    times: dict[str, list[float]] = {name: [] for name in captions}
    for _ in range(ROUNDS):
        for name, caption in captions.items():
            begun = time.perf_counter()
            caption(pixels)
            times[name].append((time.perf_counter() - begun) * 1000 / len(pixels))
    return {name: statistics.median(values) for name, values in times.items()}


@torch.inference_mode()
def same_tokens(captions: dict[str, Caption], pixels: Tensor) -> dict[str, float]:
    """Return the part of the tokens before the first one that differs from the first runtime's."""
    found = {name: caption(pixels) for name, caption in captions.items()}
    first, *_ = found.values()
    return {
        name: (tokens == first).long().cumprod(1).float().mean().item()
        for name, tokens in found.items()
    }


def main(batch: int, chosen: Sequence[str]) -> None:
    """Measure the chosen runtimes with batches of this size, and print the table."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    console = Console()
    pixels = torch.randn(batch, 3, SIDE, SIDE)
    with TemporaryDirectory() as folder, console.status("making and measuring the runtimes"):
        with torch.inference_mode():
            captions = dict(ways(batch, Path(folder), chosen))
        same = same_tokens(captions, pixels)  # which warms up as well
        figures = milliseconds(captions, pixels)
    table = Table(f"batch of {batch}", "ms an image", "same tokens")
    for name, took in figures.items():
        table.add_row(name, f"{took:.0f}", f"{same[name]:.0%}")
    console.print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or RUNTIMES)
