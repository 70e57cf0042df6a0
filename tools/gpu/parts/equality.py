"""Whether captions in fp32 have the tokens of `generate`, in every way that the engine works."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from captiond.jobs import Generation
from tools.gpu.job import Job
from tools.gpu.models import (
    SPREAD,
    WAYS,
    Model,
    Ours,
    Theirs,
    Way,
    prompt_of,
    random_model,
    random_pixels,
    ready,
    scenes_model,
)
from tools.gpu.rows import Equality, Note

CASES: tuple[tuple[Generation, tuple[int, ...]], ...] = (  # with the tokens of a prompt
    (Generation(), ()),
    (Generation(num_beams=3, num_captions=2), (7, 11)),
    (Generation(repetition_penalty=1.3, min_new_tokens=6), (20, 9, 33, 8, 15)),
    (Generation(num_beams=5, max_new_tokens=8), ()),  # more beams than are absorbed
)
ENOUGH_SECONDS = 3.0  # for a case, with all ways


@dataclass(frozen=True, slots=True)
class Subject:
    """A model by both engines; `side` is that of its images."""

    name: str
    side: int
    theirs: Theirs
    ours: dict[Way, Ours]
    end_tokens: frozenset[int]  # what fills a row behind its text


def run(job: Job) -> Iterator[Equality | Note]:
    device = ready(job.device)
    makers = {
        "captiond/scenes": partial(scenes_model, device),
        "random base": partial(random_model, "base", job.counts.layers, device, SPREAD),
    }
    subjects = [subject_of(name, make()) for name, make in makers.items()]
    for images, subject, case in product(job.counts.odd_batches, subjects, CASES):
        if job.left() < ENOUGH_SECONDS:
            yield Note(f"{subject.name}: no time for batches of {images}, nor for what follows")
            return
        yield from compared(subject, images, case, device)


def subject_of(name: str, model: Model) -> Subject:
    config: Any = model.config
    vision, text = config.vision_config, config.text_config
    ends = frozenset({text.pad_token_id, text.sep_token_id})
    ours = {way: Ours(model, "fp32", way) for way in WAYS}
    return Subject(name, vision.image_size, Theirs(model, "fp32"), ours, ends)


def compared(
    subject: Subject,
    images: int,
    case: tuple[Generation, tuple[int, ...]],
    device: torch.device,
) -> Iterator[Equality]:
    """Caption the same images by `generate` and in every way of the engine."""
    generation, words = case
    prompt, pixels = prompt_of(*words, device=device), random_pixels(images, subject.side, device)
    theirs = subject.theirs(subject.theirs.prepared(pixels), prompt, generation)
    expected = texts(theirs, subject.end_tokens)
    for way, ours in subject.ours.items():
        found = texts(ours(pixels, prompt, generation), subject.end_tokens)
        equal = sum(a == b for a, b in zip(expected, found, strict=True))
        yield Equality(
            subject.name,
            str(way),
            described(generation, len(words)),
            images,
            len(expected),
            equal,
            len(set(expected)),
        )


def texts(tokens: Tensor, ends: frozenset[int]) -> list[tuple[int, ...]]:
    """Return the captions of [images, captions, length] tokens without what fills their rows."""
    return [whole(row, ends) for row in tokens.flatten(0, 1).tolist()]


def whole(row: list[int], ends: frozenset[int]) -> tuple[int, ...]:
    while row and row[-1] in ends:
        row = row[:-1]
    return tuple(row)


def described(generation: Generation, prompt: int) -> str:
    """Return in a few words how a case searches."""
    words = ["greedy" if generation.num_beams == 1 else f"{generation.num_beams} beams"]
    words += [f"{generation.num_captions} captions"] if generation.num_captions > 1 else []
    words += (
        [f"penalty {generation.repetition_penalty}"] if generation.repetition_penalty != 1 else []
    )
    words += [f"prompt of {prompt}"] if prompt else []
    return ", ".join(words)
