"""Faults that a test cannot cause with a signal, injected into the processes of a service.

Python runs this file at the start of each process whose PYTHONPATH has its folder. `FAULT_INJECT`
is a folder, in which faults that happen once note that they have happened. Each fault happens to
images whose first pixel has its colour (`COLOURS`):

decoder_crash   a decode process dies of a segmentation fault, as in a C library; until the folder
                has the file `decoders_are_mended`
model_crash     the model process dies, with the image in its batch
tagger_crash    the model process dies while its captions are tagged and the next batch is captioned
model_hang      the model process never finishes the batch
out_of_memory   the device has memory for two images at a time
device_error    the first batch with the image fails with an error that the device cannot survive

The first time, the model cannot be loaded onto its device.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

COLOURS = {
    "decoder_crash": (255, 0, 255),
    "model_crash": (255, 0, 0),
    "tagger_crash": (0, 255, 0),
    "model_hang": (0, 0, 255),
    "out_of_memory": (255, 255, 0),
    "device_error": (0, 255, 255),
}
FOLDER = Path(os.environ.get("FAULT_INJECT", os.devnull))
MENDED = FOLDER / "decoders_are_mended"
captioned: list[bool] = []  # whether each batch that waits for its tags has a tagger_crash
begun = 0  # batches that the model has begun to caption
tagged = 0  # batches whose captions are being tagged, or were
# A batch must not take longer than the `model.batch_seconds` of the tests.
LONGEST_WAIT = 3.0


def die() -> None:
    signal.raise_signal(signal.SIGSEGV)  # which an image decoder in its box may do


def is_marked(pixels: Any, fault: str) -> bool:
    """Whether the first pixel of an image of [height, width, 3] has the colour of a fault."""
    return all(
        abs(int(value) - wanted) < 15
        for value, wanted in zip(pixels[0, 0], COLOURS[fault], strict=True)
    )


def is_first(fault: str) -> bool:
    """Whether a fault happens for the first time. The next call is too late."""
    note = FOLDER / fault
    if note.exists():
        return False
    note.touch()
    return True


def into_decoder(module: ModuleType) -> None:
    decode = module.decode

    def decoding(*arguments: Any) -> Any:
        decoded = decode(*arguments)
        if is_marked(decoded[0], "decoder_crash") and not MENDED.exists():
            die()
        return decoded

    module.decode = decoding  # type: ignore[attr-defined]


def into_model(module: ModuleType) -> None:
    caption, forward_of = module.Blip.caption, module.forward_of

    def captioning(self: Any, pixels: Any, *how: Any) -> Any:
        global begun
        begun += 1
        misbehave(pixels)
        captions = caption(self, pixels, *how)
        captioned.append(any(is_marked(image, "tagger_crash") for image in pixels))
        return captions

    def loading(*arguments: Any, **how: Any) -> Any:
        if is_first("no_driver"):
            raise RuntimeError("CUDA driver initialization failed")
        return forward_of(*arguments, **how)

    module.Blip.caption = captioning
    module.forward_of = loading  # type: ignore[attr-defined]


def into_tagger(module: ModuleType) -> None:
    tag = module.Taggers.tag

    def tagging(self: Any, captions: Any, *languages: Any) -> Any:
        global tagged
        tagged += 1
        if captioned and captioned.pop(0):
            give_up = time.monotonic() + LONGEST_WAIT
            while len(captions) > 1 and begun == tagged and time.monotonic() < give_up:
                time.sleep(0.01)
            die()
        return tag(self, captions, *languages)

    module.Taggers.tag = tagging


def misbehave(pixels: Any) -> None:
    """Do what the images of a batch cause."""

    def marked(fault: str) -> bool:
        return any(is_marked(image, fault) for image in pixels)

    if marked("out_of_memory") and len(pixels) > 2:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
    if marked("model_crash"):
        die()
    if marked("model_hang"):
        time.sleep(10**6)
    if marked("device_error") and is_first("device_error"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class AfterImport(importlib.abc.MetaPathFinder):
    """A finder that changes one module right after its import."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.change = change

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            self.change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def change_module(name: str, change: Callable[[ModuleType], None]) -> None:
    """Change a module: now, if it has been imported."""
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, AfterImport(name, change))


if "FAULT_INJECT" in os.environ:
    change_module("captiond.decoding.decoder", into_decoder)
    change_module("captiond.captioners.blip.captioner", into_model)
    change_module("captiond.tagging.tagger", into_tagger)
