"""How many images a batch has: measured once, then remembered with what else `tuning` measures.

A larger batch shares the reading of the decoder's weights among more images. At which size this
stops to help depends on the machine. So the size is doubled while the rate in images per second
does not fall, the memory is sufficient, and a batch does not take longer than `LONGEST_SECONDS`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
import torch

from captiond.captioners.memory import raising_out_of_memory
from captiond.captioners.protocol import Captioner
from captiond.decoding.geometry import Pixels
from captiond.errors import OutOfMemory
from captiond.host.machine import available_bytes
from captiond.jobs import Generation

# Returns the time that a batch of so many images takes, in seconds; raises OutOfMemory.
Seconds = Callable[[int], float]
NOISE = 0.03  # two measurements of the same rate may differ by this part
LONGEST_SECONDS = 10.0  # for a batch, because an interactive image may have to wait for one
MOST_ON_CPU, MOST_ON_GPU = 32, 256
MEMORY_SHARE = 0.5  # of the free memory, for what a batch keeps
TYPICAL_TOKENS = 10  # in a caption
LEAST_SHARE = 0.85  # of the time of a measurement in which its thread must have had a processor
TRIES, TRY_SECONDS = 4, 0.5  # measure a size this often or this long, but at least twice
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MeasuredSize:
    """A batch size, and whether the machine was idle enough to trust it."""

    size: int
    quiet: bool


def measured_size(captioner: Captioner, generation: Generation) -> MeasuredSize:
    """Measure the sizes in which a captioner is fastest, which takes about ten batches.

    On an idle machine, the thread that runs the captioner always has a processor.
    """
    begun, used = time.perf_counter(), time.thread_time()
    size = best_size(timer(captioner, generation), memory_capacity(captioner))
    share = (time.thread_time() - used) / (time.perf_counter() - begun)
    return MeasuredSize(size, captioner.device.type != "cpu" or share >= LEAST_SHARE)


def best_size(seconds: Seconds, most: int) -> int:
    """Return the largest size up to which every doubling keeps the rate; from 1 to `most`.

    A doubling that lowers the rate is measured once more, because another process may have used the
    machine meanwhile.
    """
    size, single = 1, seconds(1)
    while 2 * size <= most and 2 * single <= LONGEST_SECONDS:
        try:
            double = seconds(2 * size)
            if is_slower(single, double):
                single, double = min(single, seconds(size)), min(double, seconds(2 * size))
        except OutOfMemory:
            break
        log.info("batch_size_tried", size=2 * size, images_per_second=round(2 * size / double, 2))
        if is_slower(single, double):
            break
        size, single = 2 * size, double
    return size


def is_slower(single: float, double: float) -> bool:
    """Return whether a batch of double the size, in `double` seconds, has a lower rate."""
    return 2 * single < (1 - NOISE) * double


def timer(captioner: Captioner, generation: Generation) -> Seconds:
    """Return a function that times batches of captions of a typical length."""
    typical = replace(generation, max_new_tokens=TYPICAL_TOKENS, min_new_tokens=TYPICAL_TOKENS)

    def seconds(size: int) -> float:
        with raising_out_of_memory():
            return min(timings(captioner, captioner.allocate_pixels(size), typical))

    return seconds


def timings(captioner: Captioner, pixels: Pixels, generation: Generation) -> list[float]:
    """Return the seconds of several runs, at least two: the first one also allocates memory."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < TRIES and sum(taken) < TRY_SECONDS):
        begun = time.perf_counter()
        captioner.caption(pixels, generation)
        taken.append(time.perf_counter() - begun)
    return taken


def memory_capacity(captioner: Captioner) -> int:
    """Return how many images of a batch fit into the free memory."""
    most = MOST_ON_CPU if captioner.device.type == "cpu" else MOST_ON_GPU
    free = MEMORY_SHARE * free_bytes(captioner.device)
    return max(1, min(most, int(free / captioner.image_bytes)))


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device; for a CPU, that of the machine or of the cgroup."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return available_bytes()
