"""The exact-caption rate of a saved folder, measured through the files as users load them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, BlipForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from tools.scenes.dataset import Sample, draw_sample, open_picture

EVALUATION_SEED = 20_260  # training draws from another series
_BATCH = 50


@dataclass(frozen=True)
class Answer:
    """An unseen scene and the caption that the model gave it."""

    sample: Sample
    given: str

    @property
    def exact(self) -> bool:
        return self.given == self.sample.caption


def evaluate(folder: Path, seed: int, size: int) -> list[Answer]:
    """Captions the first `size` scenes of `seed` greedily, in float32 on the CPU."""
    model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for samples in _batches(seed, size):
        pictures = [open_picture(sample.jpeg) for sample in samples]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        given = tokenizer.batch_decode(model.generate(pixels), skip_special_tokens=True)
        answers.extend(map(Answer, samples, given))
    return answers


def _batches(seed: int, size: int) -> Iterator[list[Sample]]:
    for start in range(0, size, _BATCH):
        yield [draw_sample(seed, index) for index in range(start, min(size, start + _BATCH))]


def score(answers: list[Answer]) -> dict[str, tuple[int, int]]:
    """Exact captions and scenes, by number of things and over all."""
    groups = {"all": answers}
    for answer in answers:
        count = len(answer.sample.scene.things)
        groups.setdefault(f"{count} thing{'s' * (count > 1)}", []).append(answer)
    return {
        name: (sum(answer.exact for answer in group), len(group))
        for name, group in sorted(groups.items())
    }
