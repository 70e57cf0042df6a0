"""Hostile and odd images, decoded by a real decoder in its box."""

import asyncio
import hashlib
import itertools
import multiprocessing
import os
import random
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
from PIL import Image
from structlog.testing import capture_logs

from captiond.decoding.decode import set_up_pillow
from captiond.decoding.geometry import Geometry
from captiond.decoding.jobqueue import DecodedImage
from captiond.decoding.pool import DecodePool, running_pool
from captiond.decoding.slots import Slots
from captiond.errors import ImageError
from captiond.jobs import Lane, Refused, SpooledImage
from captiond.messages import Work
from captiond.settings.config import DataSettings, ImageSettings, Settings
from tests.faults.harness import SOAK, new_seed, progress, record, rounds
from tests.imagefiles import BOMBS, encoded, mutate, mutations, picture, variants
from tests.patience import PATIENCE
from tests.service import DATA, wait_for

pytestmark = pytest.mark.anyio
GEOMETRY = Geometry(384, 384, 3)
CODES = {error.code for error in ImageError.__subclasses__()} - {"poison_image"}
# The short form has one bomb of each kind of cost: memory, processor time, canvas, parts.
FEW_BOMBS = (
    "png in one row", "gif with a large screen", "webp 7000", "jpeg with scans",
    "tiff of 64 samples of 16 bits", "tiff of 12 bits",
    "jpeg 2000 of tiny tiles", "dng with many directories",
)  # fmt: skip
LARGE = (
    "png 7000 rgba", "png 7000 grey of 16 bits", "tiff of floats", "webp 7000", "avif 7000"
)  # fmt: skip
TICKETS = itertools.count()
PSS = re.compile(r"^Pss:\s*(\d+)", re.MULTILINE)
SAMPLE_SECONDS = 0.03  # between two; an image of 49 megapixels is decoded for much longer
SECONDS = 2.5  # of processor time: the limit, and what the kernel's timer and a reply take
BUDGET = 3 << 30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Decoders:
    """A pool of one decoder, and the processor time that each image takes in it."""

    def __init__(self, pool: DecodePool, spool: Path) -> None:
        self._pool = pool
        self._spool = spool
        self.codes: Counter[str] = Counter()
        self.slowest = 0.0

    async def decode(self, content: bytes) -> str:
        """Decode an image; return "decoded" or the code of its error."""
        name = hashlib.sha256(content).hexdigest()
        work = stored(self._spool, content)
        before = seconds_of_children()
        async with asyncio.timeout(PATIENCE):
            result = await self._pool.decode(work)
        (self._spool / name).unlink()
        self.slowest = max(self.slowest, seconds_of_children() - before)
        assert result is not None
        code = "decoded"
        if isinstance(result, Refused):
            code = result.code
        else:
            self._pool.free([result.slot])
        self.codes[code] += 1
        return code

    def peak(self) -> int:
        """Return the greatest resident size that the decoder had, in bytes.

        A child that is about to begin or to end has no size.
        """
        status = "".join(Path(f"/proc/{child}/status").read_text() for child in children())
        return 1024 * max(map(int, re.findall(r"VmHWM:\s*(\d+)", status)))


def stored(spool: Path, content: bytes) -> Work:
    """Return the work for an image that is in the spool."""
    name = hashlib.sha256(content).hexdigest()
    (spool / name).write_bytes(content)
    return Work(f"ticket {next(TICKETS)}", Lane.BULK, SpooledImage(name, 0, len(content), name))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def decoding_processes() -> list[str]:
    """Return the decoders. Python has one more child, which tracks the shared memory."""
    return sorted(str(each.pid) for each in multiprocessing.active_children())


def seconds_of_children() -> float:
    """Return the processor time of all children: of those that live, and of those that ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    living = 0
    for child in children():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        living += int(fields[11]) + int(fields[12])
    times = os.times()
    return living / ticks + times.children_user + times.children_system


@asynccontextmanager
async def decoders(folder: Path, **images: Any) -> AsyncIterator[Decoders]:
    settings = Settings(
        data=DataSettings(dir=folder),
        images=ImageSettings(decoders=1, decoders_memory=BUDGET, **images),
    )
    settings.spool.mkdir()
    async with running_pool(settings, Slots(1, GEOMETRY)) as pool:
        yield Decoders(pool, settings.spool)


def check_lines(lines: list[MutableMapping[str, Any]], most: int) -> int:
    """Check that nothing died, and that few lines were logged, all of them ours; return how many.

    Lines of the level debug do not count.
    """
    shown = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert set(shown) <= {"decoder_printed", "decoding_too_slow"}
    assert len(shown) <= most
    return len(shown)


async def test_every_mode_format_and_orientation_is_decoded(tmp_path: Path) -> None:
    files = list(variants(picture()))
    with capture_logs() as lines:
        async with decoders(tmp_path) as them:
            for name, content in files[:: 1 if SOAK else 4]:
                assert await them.decode(content) == "decoded", name
    check_lines(lines, 0)
    record("every mode, format and orientation", images=len(files), codes=dict(them.codes))


async def test_damaged_files_give_pixels_or_an_error(tmp_path: Path) -> None:
    count = rounds(300, 10_000)
    with capture_logs() as lines:
        async with decoders(tmp_path) as them:
            for number, content in enumerate(mutations(new_seed(), count)):
                code = await them.decode(content)
                assert code == "decoded" or code in CODES, code
                progress(number + 1, count, "damaged files")
    assert them.slowest < SECONDS
    shown = check_lines(lines, 10)
    figures = {"slowest": round(them.slowest, 2), "log_lines": shown, **them.codes}
    record("damaged files", images=count, **figures)


def optional_files() -> dict[str, list[bytes]]:
    """Return files of the types that need an extra."""
    images = (picture(), picture().convert("L"), picture().convert("RGBA"))
    return {
        "heif": [(DATA / "red_circle.heic").read_bytes()],
        "jxl": [encoded(image, "JXL", use_container=True) for image in images],
    }


@pytest.mark.parametrize("type_", ["heif", "jxl"])
async def test_damaged_files_of_optional_types_give_pixels_or_an_error(
    tmp_path: Path, type_: str
) -> None:
    count, rng = rounds(50, 2000), random.Random(new_seed())
    set_up_pillow(ImageSettings(types=("heif", "jxl")))  # to write them
    whole = optional_files()[type_]
    with capture_logs() as lines:
        async with decoders(tmp_path, types=(type_, "avif")) as them:
            for content in whole:
                assert await them.decode(content) == "decoded"
            for number in range(count):
                damaged = bytearray(rng.choice(whole))
                mutate(damaged, rng)
                code = await them.decode(bytes(damaged))
                assert code == "decoded" or code in CODES, code
                progress(number + 1, count, f"damaged {type_} files")
    assert them.slowest < SECONDS
    check_lines(lines, 10)
    figures = {"slowest": round(them.slowest, 2), **them.codes}
    record(f"damaged {type_} files", images=count, **figures)


async def test_large_jpeg_xl_files_take_little_time_and_memory(tmp_path: Path) -> None:
    set_up_pillow(ImageSettings(types=("jxl",)))
    large = [
        encoded(Image.new(mode, (7000, 7000)), "JXL", effort=1, lossless=lossless)
        for mode in (("L", "RGBA") if SOAK else ("L",))
        for lossless in (False, True)
    ]
    with capture_logs() as lines:
        async with decoders(tmp_path, types=("jxl",)) as them:
            for content in large:
                code = await them.decode(content)
                assert code == "decoded" or code in CODES, code
                assert them.slowest < SECONDS
            assert them.peak() < BUDGET
    check_lines(lines, 10)


# ---------------------------------------------------------------- several decoders


class PeakMemory:
    """The greatest sum of the memory of several processes, sampled in a thread.

    The memory of a process is its proportional share (PSS, proc(5)), so that what they share counts
    once. `first` is the sum before the first image.
    """

    def __init__(self, processes: list[str]) -> None:
        self.processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.first = self.most = self._sum()
        self.samples = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.most = max(self.most, self._sum())
            self.samples += 1

    def _sum(self) -> int:
        rollups = (Path(f"/proc/{process}/smaps_rollup") for process in self.processes)
        return 1024 * sum(int(PSS.findall(rollup.read_text())[0]) for rollup in rollups)


@cache
def large_file(name: str) -> bytes:
    """Return a file that takes a second to make and little memory to keep."""
    return BOMBS[name]()


@pytest.mark.parametrize("budget_mib", [1024, 2048] if SOAK else [1024])
async def test_several_decoders_stay_within_their_budget(tmp_path: Path, budget_mib: int) -> None:
    """Four decoders always have images of 49 megapixels, or wait for memory to decode them."""
    budget, number = budget_mib << 20, 4
    settings = Settings(
        data=DataSettings(dir=tmp_path),
        images=ImageSettings(decoders=number, decoders_memory=budget, decode_seconds=60),
    )
    settings.spool.mkdir()
    files = [large_file(name) for name in (LARGE if SOAK else LARGE[:3])] * rounds(2, 20)
    codes = Counter[str]()

    async def decode_all(pool: DecodePool, contents: Iterator[bytes]) -> None:
        for content in contents:
            async with asyncio.timeout(PATIENCE):
                result = await pool.decode(stored(settings.spool, content))
            codes[result.code if isinstance(result, Refused) else "decoded"] += 1
            if isinstance(result, DecodedImage):
                pool.free([result.slot])

    with capture_logs() as lines:
        async with running_pool(settings, Slots(number, GEOMETRY)) as pool:
            await decode_all(pool, iter([next(variants(picture()))[1]]))
            await asyncio.to_thread(wait_for, lambda: len(children()) > number, "all decoders")
            waiting, before = iter(files), decoding_processes()
            with PeakMemory(before) as memory:
                await asyncio.gather(*(decode_all(pool, waiting) for _ in range(number)))
            assert decoding_processes() == before, "none has died"
    assert set(codes) <= {"decoded", "too_much_memory"}
    assert codes["decoded"] > len(files) // 2
    assert memory.most <= budget
    check_lines(lines, 0)
    record(
        f"four decoders with a budget of {budget_mib} MiB",
        images=len(files),
        peak_mib=memory.most >> 20,
        idle_mib=memory.first >> 20,
        samples=memory.samples,
        codes=dict(codes),
    )


def bombs() -> Iterator[tuple[str, bytes]]:
    for name in BOMBS if SOAK else FEW_BOMBS:
        yield name, BOMBS[name]()


async def test_expensive_files_take_little_time_and_memory(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with decoders(tmp_path) as them:
            assert await them.decode(next(variants(picture()))[1]) == "decoded"
            for name, content in bombs():
                them.slowest = 0.0
                code = await them.decode(content)
                assert code == "decoded" or code in CODES, (name, code)
                assert them.slowest < SECONDS, name
                record(f"bomb: {name}", images=1, seconds=round(them.slowest, 2), code=code)
            assert them.peak() < BUDGET
    check_lines(lines, 10)
