"""Our forward and search beside transformers' `generate`, interleaved in one process.

python -m tests.benchmarks.decoder [BATCH...]

BLIP-base's shape with random weights, 384 x 384, 19 new tokens, and captiond/scenes.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from transformers import BlipConfig, BlipForConditionalGeneration

from captiond.config import Precision
from captiond.inference.blip import finder
from captiond.inference.models import EMBEDDED
from captiond.jobs import Generation

NEW_TOKENS = 19
NEVER = 10**9  # no token's number: captions do not end early
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
DTYPES = {"bf16": torch.bfloat16}


def base() -> BlipForConditionalGeneration:
    torch.manual_seed(0)
    vision = {"image_size": 384, "initializer_range": 0.02}
    config = BlipConfig(vision_config=vision, text_config={"sep_token_id": NEVER})
    return BlipForConditionalGeneration(config)


def scenes() -> BlipForConditionalGeneration:
    model: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        EMBEDDED["captiond/scenes"]
    )
    return model


def ours(
    model: BlipForConditionalGeneration, precision: Precision, pixels: torch.Tensor
) -> Callable[[], object]:
    dtype = DTYPES.get(precision, torch.float32)
    find = finder(torch.nn.Module.to(model, dtype), precision)
    prompt, wanted = torch.zeros(1, dtype=torch.long), Generation(max_new_tokens=NEW_TOKENS)
    return partial(find, pixels.to(dtype), prompt, wanted)


@torch.inference_mode()
def compare(
    make: Callable[[], BlipForConditionalGeneration], side: int, batch: int, rounds: int
) -> list[float]:
    """Seconds an image, of `generate` and of ours in each precision: medians."""
    model = make()
    model.train(mode=False)
    pixels = torch.randn(batch, 3, side, side)
    ways: list[Callable[[], object]] = [
        lambda: model.generate(pixel_values=pixels, max_new_tokens=NEW_TOKENS, do_sample=False)
    ]
    ways += [ours(make(), precision, pixels) for precision in PRECISIONS]
    times: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way()
    for _ in range(rounds):
        for way, spent in zip(ways, times, strict=True):
            begun = time.perf_counter()
            way()
            spent.append((time.perf_counter() - begun) / batch)
    return [statistics.median(spent) for spent in times]


def main(sizes: list[int]) -> None:
    console = Console()
    table = Table("model", "batch", "generate, ms an image", *PRECISIONS)
    cases = [("BLIP-base's shape", base, 384, batch, 5) for batch in sizes or (1, 4, 8)]
    cases += [("captiond/scenes", scenes, 64, batch, 40) for batch in (1, 8)]
    for name, make, side, batch, rounds in cases:
        with console.status(f"{name}, batch {batch}"):
            theirs, *own = compare(make, side, batch, rounds)
        cells = [f"{seconds * 1000:.1f} ({seconds / theirs:.2f})" for seconds in own]
        table.add_row(name, str(batch), f"{theirs * 1000:.1f}", *cells)
    console.print(table)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]])
