"""How many images a batch takes: found by trying once, then remembered in the data folder.

A larger batch shares the reading of the decoder's weights among more images. From where on that
brings nothing is the machine's affair: the size is doubled for as long as images a second do not
fall, the memory has room, and a batch takes no longer than an urgent image may wait for one.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog
import torch

import captiond
from captiond.captioners.blip.captioner import Blip
from captiond.captioners.memory import told_as_out_of_memory
from captiond.decoding.decode import Pixels
from captiond.errors import OutOfMemory
from captiond.jobs import Generation

Seconds = Callable[[int], float]  # that a batch of so many images takes; raises OutOfMemory
FALL = 0.03  # of images a second: what two measurements of the same may differ by
LONGEST_SECONDS = 10.0  # of a batch
MOST_ON_CPU, MOST_ON_GPU = 32, 256
SHARE = 0.5  # of the free memory, for what a batch keeps; the rest is for all else
TYPICAL_TOKENS = 10  # of a caption
TRIES, TRY_SECONDS = 4, 0.5  # a size is tried so often, or for so long, but twice at least
CGROUP = Path("/sys/fs/cgroup")
log = structlog.get_logger()


def remembered_size(notes: Path, key: str) -> int | None:
    """What was found for `key` in an earlier life."""
    size = read(notes).get(key)
    return size if isinstance(size, int) and size > 0 else None


def measured_size(blip: Blip, generation: Generation, notes: Path, key: str) -> int:
    """Try sizes, which takes some ten batches, and remember the best under `key`."""
    seconds = timer(blip, generation)
    size = best_size(seconds, room_for(blip))
    remember(notes, key, size)
    return size


def key_of(blip: Blip, fingerprint: str, generation: Generation) -> str:
    """All that the answer depends on, as one line."""
    device = torch.cuda.get_device_name(blip.device) if blip.device.type == "cuda" else "cpu"
    threads = torch.get_num_threads()
    parts = (fingerprint, device, threads, blip.precision, generation.num_beams)
    return " ".join(str(part) for part in (*parts, torch.__version__, captiond.__version__))


def best_size(seconds: Seconds, most: int) -> int:
    """The last size whose doubling was no loss; at least 1, at most `most`.

    A doubling that is one is tried once more: something else may have had the machine meanwhile.
    """
    size, took = 1, seconds(1)
    while 2 * size <= most and 2 * took <= LONGEST_SECONDS:
        try:
            twice = seconds(2 * size)
            if is_loss(took, twice):
                took, twice = min(took, seconds(size)), min(twice, seconds(2 * size))
        except OutOfMemory:
            break
        log.info("batch_size_tried", size=2 * size, images_per_second=round(2 * size / twice, 2))
        if is_loss(took, twice):
            break
        size, took = 2 * size, twice
    return size


def is_loss(took: float, twice: float) -> bool:
    """Whether twice the images in `twice` seconds are fewer a second than once in `took`."""
    return 2 * took < (1 - FALL) * twice


def timer(blip: Blip, generation: Generation) -> Seconds:
    """Times captions of a usual length; the pixels are of no matter."""
    usual = replace(generation, max_new_tokens=TYPICAL_TOKENS, min_new_tokens=TYPICAL_TOKENS)

    def seconds(size: int) -> float:
        with told_as_out_of_memory():
            return min(tries(blip, blip.room(size), usual))

    return seconds


def tries(blip: Blip, pixels: Pixels, generation: Generation) -> list[float]:
    """Seconds of each; the first, which takes memory and chooses kernels, is never alone."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < TRIES and sum(taken) < TRY_SECONDS):
        begun = time.perf_counter()
        blip.caption(pixels, generation)
        taken.append(time.perf_counter() - begun)
    return taken


def room_for(blip: Blip) -> int:
    """How many images a batch may have, by the free memory."""
    most = MOST_ON_CPU if blip.device.type == "cpu" else MOST_ON_GPU
    return max(1, min(most, int(SHARE * free_bytes(blip.device) / blip.image_bytes)))


def free_bytes(device: torch.device) -> int:
    """Of the device's memory; on a CPU what the kernel, or the process's cgroup, would give."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return min(available_bytes(), cgroup_bytes())


def available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def cgroup_bytes() -> int:
    """What is left of a container's limit (cgroup v2); without one, no bound."""
    try:
        most = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except OSError:
        return 1 << 62
    return max(0, int(most) - used) if most.isdigit() else 1 << 62


def remember(notes: Path, key: str, size: int) -> None:
    """A disk that does not take it costs the next start the trial, and nothing else."""
    text = json.dumps(read(notes) | {key: size}, indent=1)
    draft = notes.with_suffix(f".{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(notes)
    except OSError as error:
        log.warning("batch_size_not_kept", reason=str(error))
        draft.unlink(missing_ok=True)


def read(notes: Path) -> dict[str, object]:
    """What is remembered; nothing where the file is not there or not ours."""
    try:
        found = json.loads(notes.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
