"""Measure how far confidences can be trusted: python -m tools.scenes.calibration [SCENES]

The scenes are those that the embedded model is evaluated on, which its training did not use. A
caption is right if it equals the true one, and a tag if the true caption has it as well. The table
has the reliability curve: in each row, the outcomes with a confidence in this range, their mean
confidence, and the share of them that is right. The expected calibration error is the mean distance
of the two, weighted by the number of outcomes (Guo et al., "On Calibration of Modern Neural
Networks", 2017).

For comparison, an isotonic curve is fitted to one half of the scenes (pool adjacent violators), and
the error of both is measured on the other half.
"""

import sys
from bisect import bisect_right
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.decoding.decode import decode
from captiond.jobs import Generation
from captiond.settings.config import ImageSettings
from captiond.tagging.tagger import Tagger
from tools.scenes.dataset import Sample, draw_sample
from tools.scenes.evaluation import EVALUATION_SEED

SCENES, BATCH, BINS = 2000, 50, 10
Curve = tuple[tuple[float, float], ...]  # points of a line that never falls, by their rising x


@dataclass(frozen=True, slots=True)
class Judged:
    """A confidence, and whether what it is about is right."""

    confidence: float
    right: bool


def judged_batch(
    captioner: Blip, tagger: Tagger, samples: list[Sample]
) -> tuple[list[Judged], list[Judged]]:
    """Caption scenes. Return their captions and their tags, judged by the true captions."""
    files = (BytesIO(sample.jpeg) for sample in samples)
    settings = ImageSettings()
    pixels = np.stack([decode(file, captioner.geometry, settings)[0] for file in files])
    best = [captions[0] for captions in captioner.caption(pixels, Generation(max_new_tokens=24))]
    given = tagger.tag([caption.text for caption in best])
    true = tagger.tag([sample.caption for sample in samples])
    captions, tags = [], []
    for sample, caption, found, wanted in zip(samples, best, given, true, strict=True):
        assert caption.confidence is not None
        captions.append(Judged(caption.confidence, caption.text == sample.caption))
        names = {tag.tag for tag in wanted}
        for tag in caption.tagged(found):
            assert tag.confidence is not None
            tags.append(Judged(tag.confidence, tag.tag in names))
    return captions, tags


def rows(judged: list[Judged]) -> list[tuple[float, float, list[Judged]]]:
    """Return the outcomes by the range of their confidence, those ranges that have any."""
    ranges = [(number / BINS, (number + 1) / BINS) for number in range(BINS)]
    found = []
    for low, high in ranges:
        inside = [
            each for each in judged if low <= each.confidence < high or high == each.confidence == 1
        ]
        if inside:
            found.append((low, high, inside))
    return found


def mean_confidence(judged: list[Judged]) -> float:
    return sum(each.confidence for each in judged) / len(judged)


def share_right(judged: list[Judged]) -> float:
    return sum(each.right for each in judged) / len(judged)


def calibration_error(judged: list[Judged]) -> float:
    """Return the expected calibration error."""
    return sum(
        len(inside) / len(judged) * abs(mean_confidence(inside) - share_right(inside))
        for _, _, inside in rows(judged)
    )


def isotonic(judged: list[Judged]) -> Curve:
    """Return the curve that never falls and fits best, by pooling adjacent violators."""
    blocks: list[tuple[float, float, int]] = []  # sums of confidences and of right ones, and number
    for each in sorted(judged, key=lambda each: each.confidence):
        blocks.append((each.confidence, float(each.right), 1))
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] >= blocks[-1][1] * blocks[-2][2]:
            last = blocks.pop()
            before = blocks.pop()
            blocks.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    points = [(x / number, y / number) for x, y, number in blocks]
    return tuple(
        point for point, following in pairwise([*points, (2.0, 1.0)]) if point[0] < following[0]
    )


def on_curve(x: float, curve: Curve) -> float:
    """Return the value of a curve, by linear interpolation."""
    after = bisect_right(curve, x, key=lambda point: point[0])
    if after in {0, len(curve)}:
        return curve[min(after, len(curve) - 1)][1]
    (x0, y0), (x1, y1) = curve[after - 1 : after + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def calibrated(judged: list[Judged], curve: Curve) -> list[Judged]:
    return [Judged(on_curve(each.confidence, curve), each.right) for each in judged]


def report(name: str, judged: list[Judged]) -> None:
    """Print the reliability curve of captions or tags, and the errors."""
    console = Console(width=100)
    table = Table("confidence", "number", "mean", "right", title=name)
    for low, high, inside in rows(judged):
        table.add_row(
            f"{low:.1f} to {high:.1f}",
            str(len(inside)),
            f"{mean_confidence(inside):.3f}",
            f"{share_right(inside):.3f}",
        )
    console.print(table)
    first, second = judged[::2], judged[1::2]
    console.print(
        f"{len(judged)} {name}, {share_right(judged):.3f} right; expected calibration error "
        f"{calibration_error(judged):.4f}; of one half {calibration_error(second):.4f}, and "
        f"{calibration_error(calibrated(second, isotonic(first))):.4f} with an isotonic curve "
        "fitted to the other half"
    )


def main() -> None:
    scenes = int(sys.argv[1]) if len(sys.argv) > 1 else SCENES
    captioner = Blip.load(EMBEDDED["captiond/scenes"], Placement(torch.device("cpu"), "fp32"))
    tagger = Tagger.load("en", "captiond/english")
    captions: list[Judged] = []
    tags: list[Judged] = []
    for start in range(0, scenes, BATCH):
        numbers = range(start, min(scenes, start + BATCH))
        samples = [draw_sample(EVALUATION_SEED, number) for number in numbers]
        more_captions, more_tags = judged_batch(captioner, tagger, samples)
        captions += more_captions
        tags += more_tags
    report("captions", captions)
    report("tags", tags)


if __name__ == "__main__":
    main()
