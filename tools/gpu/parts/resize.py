"""Images of JPEGs' usual sizes, resized on the GPU: whether as by Pillow, and how fast."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image

from captiond.captioners.devices import pin_memory
from captiond.captioners.gpu_resize import GpuResizer
from captiond.decoding.geometry import Geometry, Pixels
from captiond.worker.gathering import WHOLE_BYTES
from tools.gpu.job import Job
from tools.gpu.models import ready
from tools.gpu.rows import Note, Resized
from tools.gpu.timing import SIDE, median_of

GEOMETRY = Geometry(SIDE, SIDE, Image.Resampling.BICUBIC, WHOLE_BYTES)
SIZES = ((1024, 768), (768, 1024), (640, 480), (480, 640), (512, 512), (1536, 1024))
BATCH, CHECKED = 256, 8  # images that are timed, and how many of them are compared


def run(job: Job) -> Iterator[Resized | Note]:
    device = ready(job.device)
    if job.on_cpu:
        yield Note("the kernel is for GPUs; its tests run it on a CPU")
        return
    resizer = GpuResizer(device, GEOMETRY, BATCH)
    pinned = np.empty((BATCH, WHOLE_BYTES), np.uint8)
    pin_memory(pinned)
    sizes = [(size,) for size in SIZES]
    for each in (*sizes, SIZES, drawn(BATCH)):
        images = noise(each)
        held = [hold(pinned[number], image) for number, image in enumerate(images)]
        yield Resized(
            sizes=f"{each[0][0]} x {each[0][1]}" if len(each) == 1 else f"{len(each)} sizes",
            images=BATCH,
            checked=CHECKED if len(each) < BATCH else BATCH,
            equal=equal(resizer, held, CHECKED if len(each) < BATCH else BATCH),
            seconds=median_of(partial(resizer, held), job),
            pageable_seconds=median_of(partial(resizer, images), job),
        )


def drawn(count: int) -> tuple[tuple[int, int], ...]:
    """Return so many sizes that fit."""
    numbers = np.random.default_rng(1)
    sizes = list[tuple[int, int]]()
    while len(sizes) < count:
        width, height = (int(side) for side in numbers.integers(1, 1600, 2))
        if GEOMETRY.stays_whole(width, height):
            sizes.append((width, height))
    return tuple(sizes)


def noise(sizes: Sequence[tuple[int, int]]) -> list[Pixels]:
    """Return as many images as a batch has, which have these sizes in turn."""
    numbers = np.random.default_rng(0)
    made = [numbers.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
    return [made[number % len(made)] for number in range(BATCH)]


def hold(memory: Pixels, image: Pixels) -> Pixels:
    """Return an image that is copied into memory."""
    held = memory[: image.size].reshape(image.shape)
    held[:] = image
    return held


def equal(resizer: GpuResizer, images: Sequence[Pixels], checked: int) -> int:
    ours = resizer(images).cpu().numpy()
    torch.cuda.synchronize()
    pairs = zip(images[:checked], ours, strict=False)
    return sum(
        np.array_equal(one, np.asarray(Image.fromarray(image).resize((SIDE, SIDE), 3)))
        for image, one in pairs
    )
