"""Our greedy search beside transformers' `generate`, interleaved in one process.

python -m tests.benchmarks.decoder

BLIP-base's shape with random weights, 384 x 384, 19 new tokens, fp32, and captiond/scenes.
"""

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from transformers import BlipConfig, BlipForConditionalGeneration

from captiond.inference.greedy import GreedyDecoder
from captiond.inference.models import EMBEDDED

NEW_TOKENS = 19
NEVER = 10**9  # no token's number: captions do not end early


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


@torch.inference_mode()
def compare(
    model: BlipForConditionalGeneration, side: int, batch: int, rounds: int
) -> tuple[float, float]:
    """Seconds an image, of `generate` and of ours: medians."""
    model.train(mode=False)
    pixels, ours = torch.randn(batch, 3, side, side), GreedyDecoder(model)
    ways: list[Callable[[], object]] = [
        lambda: model.generate(pixel_values=pixels, max_new_tokens=NEW_TOKENS, do_sample=False),
        lambda: ours(pixels, NEW_TOKENS),
    ]
    times: list[list[float]] = [[], []]
    for way in ways:
        way()
    for _ in range(rounds):
        for way, spent in zip(ways, times, strict=True):
            begun = time.perf_counter()
            way()
            spent.append((time.perf_counter() - begun) / batch)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    console = Console()
    table = Table("model", "batch", "generate, ms an image", "ours", "ratio")
    cases = [("BLIP-base's shape", base(), 384, batch, 5) for batch in (1, 4, 8)]
    cases += [("captiond/scenes", scenes(), 64, batch, 40) for batch in (1, 8)]
    for name, model, side, batch, rounds in cases:
        with console.status(f"{name}, batch {batch}"):
            theirs, ours = compare(model, side, batch, rounds)
        cells = (f"{theirs * 1000:.1f}", f"{ours * 1000:.1f}", f"{ours / theirs:.2f}")
        table.add_row(name, str(batch), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
