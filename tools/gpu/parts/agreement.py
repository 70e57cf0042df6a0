"""How many captions of the embedded model are right in each precision, and equal those of fp32."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from transformers.models.auto.tokenization_auto import AutoTokenizer

from captiond.decoding.decode import decode
from captiond.decoding.geometry import Geometry, Pixels
from captiond.jobs import Generation
from captiond.settings.config import ImageSettings, Precision
from tools.gpu.job import PROJECTED_WITH_GRAPHS, Job
from tools.gpu.models import (
    NAMED_WAYS,
    SCENES,
    Model,
    Ours,
    prompt_of,
    ready,
    scenes_model,
)
from tools.gpu.rows import Agreement
from tools.scenes.dataset import Sample, draw_sample
from tools.scenes.evaluation import EVALUATION_SEED

BATCH = 250
BICUBIC = 3  # as the embedded model's images are resized
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp8")
SEARCH = Generation(max_new_tokens=24)


def run(job: Job) -> Iterator[Agreement]:
    """Draw the scenes in all cores; what is drawn is the same for the same number."""
    device = ready(job.device)
    samples = drawn(job.counts.scenes)
    model = scenes_model(device)
    vision: Any = model.config.vision_config
    pixels = torch.from_numpy(decoded(samples, vision.image_size)).to(device)
    first: list[str] = []
    for precision in PRECISIONS:
        given = captions(model, precision, pixels)
        first = first or given
        right = sum(text == sample.caption for text, sample in zip(given, samples, strict=True))
        same = sum(text == other for text, other in zip(given, first, strict=True))
        yield Agreement(precision, len(samples), right, same)


def drawn(scenes: int) -> list[Sample]:
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        numbers = range(scenes)
        seeds = [EVALUATION_SEED] * scenes
        return list(pool.map(draw_sample, seeds, numbers, chunksize=1 + scenes // (4 * cores)))


def decoded(samples: list[Sample], side: int) -> Pixels:
    geometry, images = Geometry(side, side, BICUBIC), ImageSettings()
    return np.stack([decode(BytesIO(sample.jpeg), geometry, images)[0] for sample in samples])


def captions(model: Model, precision: Precision, pixels: torch.Tensor) -> list[str]:
    ours = Ours(model, precision, NAMED_WAYS[PROJECTED_WITH_GRAPHS])
    tokenizer = AutoTokenizer.from_pretrained(SCENES)
    prompt = prompt_of(device=pixels.device)
    texts: list[str] = []
    for batch in torch.split(pixels, BATCH):
        tokens = ours(batch, prompt, SEARCH)[:, 0]
        texts += [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    return texts
