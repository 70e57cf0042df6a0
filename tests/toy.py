"""A toy captioner without a model: it says how bright an image is."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captiond.captioners.devices import BatchPixels
from captiond.captioners.protocol import Capabilities, Captioner, Family, Placement
from captiond.decoding.geometry import Geometry, Pixels
from captiond.jobs import Caption, Generation
from captiond.vocabulary import Vocabulary

SIDE = 8


class ToyCaptioner:
    """Captions an image with the word of its brightness, and with what is known about it."""

    capabilities = Capabilities(context=True)
    geometry = Geometry(SIDE, SIDE, 3)
    image_bytes = 1000

    def __init__(self, words: list[str], placement: Placement) -> None:
        self._words = words
        self.device: torch.device = placement.device
        self.precision = placement.precision

    def allocate_pixels(self, images: int) -> Pixels:
        return np.zeros((images, SIDE, SIDE, 3), dtype=np.uint8)

    def caption(
        self, pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None = None
    ) -> list[tuple[Caption, ...]]:
        step = 256 / len(self._words)
        words = [self._words[int(image.mean() / step)] for image in np.asarray(pixels)]
        known = f" ({generation.context})" if generation.context else ""
        return [(Caption(f"a {word} image{known}", 0.0),) for word in words]


def toy_family(may_load: threading.Event | None = None) -> Family:
    """Return a family for the table. It loads once `may_load` is set."""

    def load(folder: Path, placement: Placement) -> Captioner:
        if may_load is not None:
            may_load.wait()
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        return ToyCaptioner(config["words"], placement)

    return Family(load, uses_context=True)


def write_toy(folder: Path) -> Path:
    """Write a checkpoint of the toy to a folder."""
    folder.mkdir()
    config = {"model_type": "toy", "words": ["dark", "bright"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    return folder
