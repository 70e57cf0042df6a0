"""captiond's engine beside transformers' `generate`: the same model, the same pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import BlipForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from captiond.bench.cases import Case, Kind
from captiond.bench.floor import Work
from captiond.captioners.blip.captioner import DTYPES, Blip, pick_device, pick_precision
from captiond.config import Settings
from captiond.decoding.decode import Pixels, decode
from captiond.jobs import Generation
from captiond.worker.loading import threads_of


@dataclass(frozen=True)
class Engines:
    """The model twice, for ours may change the layers of its own; and pixels, [images, …]."""

    theirs: BlipForConditionalGeneration
    ours: Blip
    pixels: Tensor  # as they are decoded
    normal: Tensor  # as `generate` wants them
    new_tokens: int

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.theirs.config.to_dict()
        return config


def load_engines(settings: Settings, images: list[bytes]) -> Engines:
    """Load the model of the settings, a folder, for each.

    Raises:
        ModelBroken: it cannot be loaded.
    """
    folder, device = Path(settings.model.name), device_of(settings)
    precision = pick_precision(settings.model.precision, device)
    dtype = DTYPES[precision]
    if device.type == "cpu":
        torch.set_num_threads(threads_of(settings))
    ours = Blip.load(folder, device, precision, cuda_graphs=settings.model.cuda_graphs)
    theirs = BlipForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    torch.nn.Module.to(theirs, device)
    pixels = np.stack([read(image, ours, settings) for image in images])
    processor = BlipImageProcessorPil.from_pretrained(folder)
    normal = processor(list(pixels), do_resize=False, return_tensors="pt")["pixel_values"]
    return Engines(
        theirs=theirs,
        ours=ours,
        pixels=torch.from_numpy(pixels).to(device),
        normal=normal.to(device, dtype),
        new_tokens=settings.generation.max_new_tokens,
    )


def device_of(settings: Settings) -> torch.device:
    """The first of the settings."""
    return pick_device(settings.model.devices[0])


def read(image: bytes, blip: Blip, settings: Settings) -> Pixels:
    pixels, _ = decode(BytesIO(image), blip.geometry, settings.images)
    return pixels


def engine_cases(engines: Engines, sizes: tuple[int, ...]) -> Iterator[Case]:
    for size in sizes:
        rows = torch.arange(size, device=engines.pixels.device) % len(engines.pixels)
        yield Case(Kind.GENERATE, str(size), size, theirs(engines, engines.normal[rows]))
        yield Case(Kind.CAPTIOND, str(size), size, ours(engines, engines.pixels[rows]))


def theirs(engines: Engines, pixels: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def run() -> Tensor:
        tokens: Tensor = engines.theirs.generate(
            pixel_values=pixels, max_new_tokens=engines.new_tokens, do_sample=False
        )
        return tokens.cpu()

    return run


def ours(engines: Engines, pixels: Tensor) -> Callable[[], Tensor]:
    greedy = Generation(max_new_tokens=engines.new_tokens)

    @torch.inference_mode()
    def run() -> Tensor:
        return engines.ours.find(pixels, greedy).tokens[:, 0].cpu()

    return run


def work_of(tokens: Tensor, padding: int) -> Work:
    """What was to be done for these captions, [batch, length]; the first token was given."""
    new = tokens[:, 1:]
    return Work(len(new), int((new != padding).sum()), new.shape[1])


def same_part(theirs: Tensor, ours: Tensor, padding: int) -> float:
    """The part of the rows, [batch, length] each, that differ in nothing but padding at the end."""
    length = max(theirs.shape[1], ours.shape[1])
    padded = [pad(rows, (0, length - rows.shape[1]), value=padding) for rows in (theirs, ours)]
    return (padded[0] == padded[1]).all(1).float().mean().item()


def decode_case(engines: Engines, image: bytes, settings: Settings) -> Case:
    return Case(Kind.DECODE, "a JPEG", 1, lambda: read(image, engines.ours, settings))
