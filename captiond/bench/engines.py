"""captiond's engine beside transformers' `generate`: the same model, the same pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from captiond.bench.cases import Case, CaseKind
from captiond.bench.floor import BatchWork
from captiond.captioners.devices import pick_device
from captiond.captioners.families import load_comparison
from captiond.captioners.protocol import Captioner, Comparison, Placement, TokenRun
from captiond.decoding.decode import decode
from captiond.decoding.geometry import Pixels
from captiond.settings.config import Settings
from captiond.worker.tuned import measured


@dataclass(frozen=True)
class Engines:
    """A model in both engines, and images for them, each [images, …] on the device."""

    comparison: Comparison
    pixels: Tensor  # as they are decoded, for captiond
    normalized: Tensor  # for `generate`
    new_tokens: int

    @property
    def captioner(self) -> Captioner:
        return self.comparison.captioner


def load_engines(settings: Settings, images: list[bytes]) -> Engines:
    """Load the model of the settings, which is a folder, for both engines.

    Raises:
        ModelBroken: it cannot be loaded.
    """
    device = device_of(settings)
    record = measured(settings, device, Path(settings.model.name)).record
    if device.type == "cpu":
        torch.set_num_threads(record.threads)
    graphs = settings.model.cuda_graphs
    placement = Placement(device, record.precision, graphs, record.choices)
    comparison = load_comparison(Path(settings.model.name), placement)
    pixels = np.stack([read(image, comparison.captioner, settings) for image in images])
    return Engines(
        comparison=comparison,
        pixels=torch.from_numpy(pixels).to(device),
        normalized=comparison.normalize(pixels),
        new_tokens=settings.generation.max_new_tokens,
    )


def device_of(settings: Settings) -> torch.device:
    """Return the first device of the settings."""
    return pick_device(settings.model.devices[0])


def read(image: bytes, captioner: Captioner, settings: Settings) -> Pixels:
    pixels, _ = decode(BytesIO(image), captioner.geometry, settings.images)
    return pixels


def engine_cases(engines: Engines, sizes: tuple[int, ...]) -> Iterator[Case]:
    """Yield two cases for each batch size: one for each engine."""
    generate, captiond = engines.comparison.generate, engines.comparison.captiond
    for size in sizes:
        rows = torch.arange(size, device=engines.pixels.device) % len(engines.pixels)
        normalized, pixels = engines.normalized[rows], engines.pixels[rows]
        new_tokens = engines.new_tokens
        yield Case(
            CaseKind.GENERATE, str(size), size, prepared_run(generate, normalized, new_tokens)
        )
        yield Case(CaseKind.CAPTIOND, str(size), size, prepared_run(captiond, pixels, new_tokens))


def prepared_run(run: TokenRun, pixels: Tensor, new_tokens: int) -> Callable[[], Tensor]:
    return lambda: run(pixels, new_tokens)


def work_of(tokens: Tensor, padding: int) -> BatchWork:
    """Return the work of these captions, token ids [batch, length]; the first token was given."""
    new = tokens[:, 1:]
    return BatchWork(len(new), int((new != padding).sum()), new.shape[1])


def equal_part(first: Tensor, second: Tensor, padding: int) -> float:
    """Return the part of the rows, token ids [batch, length], that are equal up to padding."""
    length = max(first.shape[1], second.shape[1])
    padded = [pad(rows, (0, length - rows.shape[1]), value=padding) for rows in (first, second)]
    return (padded[0] == padded[1]).all(1).float().mean().item()


def decode_case(engines: Engines, image: bytes, settings: Settings) -> Case:
    """Return the case of decoding one image."""
    return Case(CaseKind.DECODE, "a JPEG", 1, lambda: read(image, engines.captioner, settings))
