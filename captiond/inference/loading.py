"""Making model and tagger ready on a device, for the service and for the command alike."""

import os
from dataclasses import dataclass

import torch
from transformers.utils.logging import disable_progress_bar

from captiond.config import Settings
from captiond.inference.blip import Blip, pick_batch_size, pick_device, pick_dtype
from captiond.inference.models import ModelFiles, find_model, fingerprint
from captiond.inference.slots import Slots
from captiond.messages import ModelInfo
from captiond.tagging.tagger import Tagger


@dataclass(frozen=True)
class Loaded:
    """A model and a tagger, both run once already."""

    blip: Blip
    tagger: Tagger
    info: ModelInfo


def load(settings: Settings, device_setting: str) -> Loaded:
    """Load model and tagger and run both once. Blocking.

    Raises:
        ModelMissing, ModelBroken: captions or tags cannot be made here.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    tagger = Tagger.load(settings.tags.pipeline)
    files = find_model(settings)
    device = pick_device(device_setting)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(settings.model.threads or len(os.sched_getaffinity(0)))
    dtype = pick_dtype(settings.model.precision, device)
    blip = Blip.load(files.folder, device, dtype, settings.generation)
    warm_up(blip, tagger)
    return Loaded(blip, tagger, describe(settings, files, blip))


def warm_up(blip: Blip, tagger: Tagger) -> None:
    """The first run of anything pays for what later runs find done."""
    blank = Slots(1, blip.geometry).gather([0])
    tagger.tags(blip.caption(blank))


def describe(settings: Settings, files: ModelFiles, blip: Blip) -> ModelInfo:
    return ModelInfo(
        name=files.name,
        requested=settings.model.name,
        fingerprint=fingerprint(files.folder),
        device=str(blip.device),
        precision=str(blip.dtype).removeprefix("torch."),
        batch_size=pick_batch_size(settings.model, blip.device),
    )
