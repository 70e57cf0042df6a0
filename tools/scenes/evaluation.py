"""The share of exact captions of a saved model, loaded from its files as users load it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from tools.scenes.dataset import Sample, draw_sample, open_picture

EVALUATION_SEED = 20_260  # differs from the seed of the training set
_BATCH = 50


@dataclass(frozen=True)
class Answer:
    """A scene that training did not use, and the caption that the model gave it."""

    sample: Sample
    given: str

    @property
    def exact(self) -> bool:
        """Whether the model's caption equals the true one."""
        return self.given == self.sample.caption


class Captioner:
    """The model, image processor and tokenizer of a folder, in float32 on the CPU."""

    def __init__(self, folder: Path) -> None:
        self._blip = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self._blip.train(False)
        self._processor = BlipImageProcessorPil.from_pretrained(folder)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, pictures: list[Image.Image]) -> list[str]:
        """Return the caption of each picture by greedy search."""
        pixels = self._processor(pictures, return_tensors="pt")["pixel_values"]
        captions: list[str] = self._tokenizer.batch_decode(
            self._blip.generate(pixels), skip_special_tokens=True
        )
        return captions


def evaluate(folder: Path, seed: int, size: int) -> list[Answer]:
    """Caption the first `size` scenes of a seed."""
    captioner = Captioner(folder)
    answers: list[Answer] = []
    for start in range(0, size, _BATCH):
        samples = [draw_sample(seed, index) for index in range(start, min(size, start + _BATCH))]
        given = captioner([open_picture(sample.jpeg) for sample in samples])
        answers.extend(map(Answer, samples, given))
    return answers


def score(answers: list[Answer]) -> dict[str, tuple[int, int]]:
    """Return the counts of exact captions and of scenes, by number of things and in total."""
    groups = {"all": answers}
    for answer in answers:
        count = len(answer.sample.scene.things)
        groups.setdefault(f"{count} thing{'s' * (count > 1)}", []).append(answer)
    return {
        name: (sum(answer.exact for answer in group), len(group))
        for name, group in sorted(groups.items())
    }
