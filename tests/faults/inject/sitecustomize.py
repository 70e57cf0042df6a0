"""Faults that a test cannot cause with a signal, injected into the processes of a service.

Python runs this file at the start of each process whose PYTHONPATH has its folder. `FAULT_INJECT`
names the fault. It happens to images whose first pixel is magenta (255, 0, 255):

decoder_crash   a decode process dies of a segmentation fault, as in a C library
model_crash     the model process dies, with the image in its batch
tagger_crash    the model process dies while its captions are tagged and the next batch is captioned
model_hang      the model process never finishes the batch
out_of_memory   the device has memory for two images at a time (images of any colour)
no_driver       the model cannot be loaded onto its device, the first time
device_error    the first batch with the image fails with an error that the device cannot survive
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

MAGENTA = (255, 0, 255)
FAULT = os.environ.get("FAULT_INJECT", "")
captioned: list[bool] = []  # whether a marked image is in each batch that waits for its tags
ONCE = Path(os.environ.get("FAULT_INJECT_ONCE", os.devnull))


def die() -> None:
    signal.raise_signal(signal.SIGSEGV)  # which an image decoder in its box may do


def is_marked(pixels: Any) -> bool:
    """Whether the first pixel of an image of [height, width, 3] is nearly magenta."""
    red, green, blue = (int(value) for value in pixels[0, 0])
    return red > 240 and green < 15 and blue > 240


def into_decoder(module: ModuleType) -> None:
    decode = module.decode

    def decoding(*arguments: Any) -> Any:
        decoded = decode(*arguments)
        if is_marked(decoded[0]):
            die()
        return decoded

    module.decode = decoding  # type: ignore[attr-defined]


def into_model(module: ModuleType) -> None:
    caption = module.Blip.caption

    def captioning(self: Any, pixels: Any, *how: Any) -> Any:
        misbehave(pixels)
        captions = caption(self, pixels, *how)
        captioned.append(any(is_marked(image) for image in pixels))
        return captions

    module.Blip.caption = captioning


def into_tagger(module: ModuleType) -> None:
    tag = module.Taggers.tag

    def tagging(self: Any, *captions: Any) -> Any:
        if captioned and captioned.pop(0):
            time.sleep(0.5)
            die()
        return tag(self, *captions)

    module.Taggers.tag = tagging


def into_loading(module: ModuleType) -> None:
    load = module.Blip.load

    def loading(*arguments: Any, **how: Any) -> Any:
        if not ONCE.exists():
            ONCE.touch()
            raise RuntimeError("CUDA driver initialization failed")
        return load(*arguments, **how)

    module.Blip.load = loading


def misbehave(pixels: Any) -> None:
    if FAULT == "out_of_memory" and len(pixels) > 2:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
    if not any(is_marked(image) for image in pixels):
        return
    if FAULT == "model_crash":
        die()
    if FAULT == "model_hang":
        time.sleep(10**6)
    if FAULT == "device_error" and not ONCE.exists():
        ONCE.touch()
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


if FAULT == "decoder_crash":
    sys.meta_path.insert(0, AfterImport("captiond.decoding.decoder", into_decoder))
elif FAULT == "no_driver":
    sys.meta_path.insert(0, AfterImport("captiond.captioners.blip.captioner", into_loading))
elif FAULT:
    if FAULT == "tagger_crash":
        sys.meta_path.insert(0, AfterImport("captiond.tagging.tagger", into_tagger))
    sys.meta_path.insert(0, AfterImport("captiond.captioners.blip.captioner", into_model))
