"""Making model and taggers ready on a device, for the service and for the command alike."""

import os
from contextlib import suppress
from dataclasses import dataclass

import torch
from transformers.utils.logging import disable_progress_bar

from captiond.captioners import sizing
from captiond.captioners.blip.captioner import Blip, pick_device, pick_precision
from captiond.captioners.blip.graphs import filled_up
from captiond.captioners.files import ModelFiles, find_model, fingerprint
from captiond.captioners.memory import told_as_out_of_memory
from captiond.config import Settings
from captiond.decoding.decode import Pixels
from captiond.errors import OutOfMemory
from captiond.jobs import Generation
from captiond.messages import ModelInfo
from captiond.tagging.tagger import Taggers

UNTRIED_ON_CPU, UNTRIED_ON_GPU = 8, 64  # images in a batch


@dataclass(frozen=True)
class Loaded:
    """A model and the taggers, all run once already; `room` is for the pixels of a batch."""

    blip: Blip
    taggers: Taggers
    info: ModelInfo
    room: Pixels


def load(settings: Settings, device_setting: str, *, trial: bool) -> Loaded:
    """Load model and taggers and run them once. Blocking.

    With `trial`, batch sizes are tried where the settings name none and none was found before, and
    a GPU captures its token steps beforehand.

    Raises:
        ModelMissing, ModelBroken, SettingsError: captions or tags cannot be made here.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    taggers = Taggers.load(settings.tags)
    files = find_model(settings)
    device = pick_device(device_setting)
    if device.type == "cpu":
        torch.set_num_threads(threads_of(settings))
    precision = pick_precision(settings.model.precision, device)
    graphs = settings.model.cuda_graphs
    blip = Blip.load(files.folder, device, precision, cuda_graphs=graphs)
    warm_up(blip, taggers, settings)
    info = describe(settings, files, blip, trial=trial)
    if trial and device.type == "cuda":
        run_each_size(blip, info.batch_size, settings.generation.defaults)
    return Loaded(blip, taggers, info, blip.room(info.batch_size))


def threads_of(settings: Settings) -> int:
    """Of a model on the CPU, whose cores all its processes share."""
    cores = len(os.sched_getaffinity(0))
    return settings.model.threads or max(1, cores // len(settings.model.devices))


def warm_up(blip: Blip, taggers: Taggers, settings: Settings) -> None:
    """The first run of anything pays for what later runs find done."""
    languages = list(settings.tags.pipelines)
    ((caption, *_),) = blip.caption(blip.room(1), settings.generation.defaults)
    taggers.tag([caption.text] * len(languages), languages)


def run_each_size(blip: Blip, most: int, generation: Generation) -> None:
    """Caption batches of each size that has token steps of its own, the largest first, for whose
    memory the others have room.
    """
    size = filled_up(most)
    while size:
        with suppress(OutOfMemory), told_as_out_of_memory():
            blip.caption(blip.room(size), generation)
        size //= 2


def describe(settings: Settings, files: ModelFiles, blip: Blip, *, trial: bool) -> ModelInfo:
    mark = fingerprint(files.folder)
    return ModelInfo(
        name=files.name,
        requested=settings.model.name,
        fingerprint=mark,
        device=str(blip.device),
        precision=blip.precision,
        batch_size=settings.model.batch_size or found_size(settings, blip, mark, trial=trial),
    )


def found_size(settings: Settings, blip: Blip, mark: str, *, trial: bool) -> int:
    generation, notes = settings.generation.defaults, settings.batch_sizes
    key = sizing.key_of(blip, mark, generation)
    if remembered := sizing.remembered_size(notes, key):
        return min(remembered, sizing.room_for(blip))
    if trial:
        return sizing.measured_size(blip, generation, notes, key)
    return UNTRIED_ON_CPU if blip.device.type == "cpu" else UNTRIED_ON_GPU
