"""Measure how often the embedded model's captions are correct in each precision.

python -m tools.scenes.precisions [SCENES]

The table also has the share of captions that equal those of fp32, and a row for JPEG files that are
read at a fraction of their size (`[images] jpeg_draft`).
"""

import sys
from io import BytesIO

import numpy as np
import torch

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.decoding.decode import decode
from captiond.jobs import Generation
from captiond.settings.config import ImageSettings, Precision
from tools.scenes.dataset import Sample, draw_sample
from tools.scenes.evaluation import EVALUATION_SEED

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
BATCH = 50


def captions(precision: Precision, samples: list[Sample], *, draft: bool = False) -> list[str]:
    """Return the embedded model's captions of the samples. `draft` is `[images] jpeg_draft`."""
    blip = Blip.load(EMBEDDED["captiond/scenes"], Placement(torch.device("cpu"), precision))
    images = ImageSettings(jpeg_draft=draft)
    texts: list[str] = []
    for start in range(0, len(samples), BATCH):
        files = (BytesIO(sample.jpeg) for sample in samples[start : start + BATCH])
        pixels = np.stack([decode(file, blip.geometry, images)[0] for file in files])
        texts += [best.text for best, *_ in blip.caption(pixels, Generation(max_new_tokens=24))]
    return texts


def main(size: int) -> None:
    """Caption `size` scenes in each precision and print the table."""
    samples = [draw_sample(EVALUATION_SEED, number) for number in range(size)]
    answers: dict[str, list[str]] = {name: captions(name, samples) for name in PRECISIONS}
    answers["fp32, jpeg_draft"] = captions("fp32", samples, draft=True)
    sys.stdout.write(f"| precision | correct, of {size} | same as fp32 |\n|---|---|---|\n")
    for name, texts in answers.items():
        correct = sum(text == sample.caption for text, sample in zip(texts, samples, strict=True))
        same = sum(text == other for text, other in zip(texts, answers["fp32"], strict=True))
        sys.stdout.write(f"| {name} | {correct / size:.1%} | {same / size:.1%} |\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
