"""A small model for measurements: one layer of each kind, in the sizes of a real model.

It has random weights and runs the code of the real model, so the ways of `choices` can be measured
before the real weights are loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from captiond.captioners.blip.captioner import forward_of
from captiond.captioners.blip.checkpoint import is_plain_config
from captiond.captioners.blip.cost import BlipShape, arithmetic
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.weights import TIED, config_of, shapes_of, weights_of
from captiond.captioners.choices import ROWS, Choices, with_rows
from captiond.captioners.devices import dtype_of
from captiond.captioners.protocol import Placement, Run
from captiond.settings.config import Precision

WORDS = 4096  # of the vocabulary, whose product is measured with those of the layers
STD = 0.02  # of random weights
FLOP_OF_SMALL = 5e9  # per image; the ways hardly differ for models below


class BlipProbe:
    """Runs parts of a model of one layer; the shape is that of a checkpoint's config.json."""

    def __init__(self, config: Mapping[str, Any], placement: Placement) -> None:
        self._config = config_of(config)
        self.vision_layers: int = self._config.vision_config.num_hidden_layers
        self.text_layers: int = self._config.text_config.num_hidden_layers
        self._config.vision_config.num_hidden_layers = 1
        self._config.text_config.num_hidden_layers = 1
        vocabulary = self._config.text_config.vocab_size
        self._config.text_config.vocab_size = min(WORDS, vocabulary)
        self._device = placement.device
        self._tensors = random_tensors(self._config)
        self._built: dict[tuple[Precision, Choices], Forward] = {}

    @property
    def patches(self) -> int:
        vision = self._config.vision_config
        patches: int = (vision.image_size // vision.patch_size) ** 2 + 1
        return patches

    def encode(self, precision: Precision, choices: Choices, images: int) -> Run:
        """Return a run of the vision transformer's layer for some images."""
        forward, pixels = self._forward(precision, choices), self._pixels(precision, images)
        chunk = max(1, choices.rows // self.patches)

        @torch.inference_mode()
        def run() -> Tensor:
            forward.chunk = chunk
            return forward.encode(pixels)

        return run

    def decode(self, precision: Precision, choices: Choices, images: int, tokens: int) -> Run:
        """Return a run of the text decoder's layer: a prompt of one token, then token steps."""
        forward = self._forward(precision, choices)
        prompt = torch.zeros(1, dtype=torch.int64, device=self._device)
        newest = prompt.expand(images, 1)
        width = self._config.vision_config.hidden_size
        generator = torch.Generator().manual_seed(2)
        features = torch.randn(images, self.patches, width, generator=generator)
        features = features.to(dtype_of(precision, self._device))

        @torch.inference_mode()
        def run() -> Tensor:
            state, logits = forward.prefill(features, prompt, beams=1, new_tokens=tokens)
            for _ in range(tokens - 1):
                logits = state.step(newest)
            return logits

        return run

    def release(self) -> None:
        """Release the weights that the runs so far have used."""
        self._built.clear()

    def _pixels(self, precision: Precision, images: int) -> Tensor:
        side = self._config.vision_config.image_size
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randn(images, 3, side, side, generator=generator)
        return pixels.to(dtype_of(precision, self._device))

    def _forward(self, precision: Precision, choices: Choices) -> Forward:
        key = precision, with_rows(choices, ROWS[0])  # no weight depends on the rows
        if key not in self._built:
            placement = Placement(self._device, precision)
            weights = weights_of(self._tensors, self._config, placement)
            assert weights is not None  # the tensors have been made for this config
            self._built[key] = forward_of(weights, precision, choices)
        return self._built[key]


def blip_probe(folder: Path, placement: Placement) -> BlipProbe | None:
    """Return a probe of the model in a folder, or None if there is nothing to choose for it.

    That is so for small models, for models that transformers runs, and on a GPU.
    """
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    if placement.device.type != "cpu" or not is_plain_config(config):
        return None
    whole = config_of(config)
    parts = {"vision_config": vars(whole.vision_config), "text_config": vars(whole.text_config)}
    parts["text_config"].setdefault("encoder_hidden_size", parts["vision_config"]["hidden_size"])
    if arithmetic(BlipShape.of(parts)).vision < FLOP_OF_SMALL:
        return None
    return BlipProbe(config, placement)


def random_tensors(config: SimpleNamespace) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) * STD for name, shape in shapes_of(config)
    }
    return tensors | {other: tensors[name] for name, other in TIED.items()}
