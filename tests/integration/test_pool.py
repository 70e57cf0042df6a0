"""A pool of real decoder processes, which are killed, taken over, or have no file to read."""

import asyncio
import errno
import hashlib
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from structlog.testing import capture_logs

from captiond import __version__
from captiond.deaths import BLAME_LIMIT, Death
from captiond.decoding import pool as pool_module
from captiond.decoding.childoutput import PrintedOutput
from captiond.decoding.decoder import DecoderStart
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.handover import Handover
from captiond.decoding.jobqueue import DecodedImage
from captiond.decoding.pool import running_pool
from captiond.decoding.slots import Slots
from captiond.jobs import RETRYABLE, Lane, Refused, SpooledImage
from captiond.messages import Work
from captiond.processes.box import missing_parts
from captiond.processes.version import OTHER_VERSION
from captiond.settings.config import DataSettings, ImageSettings, Settings
from tests.conftest import png
from tests.imagefiles import blank_png, encoded, in_mode, picture
from tests.patience import PATIENCE
from tests.service import DATA

if TYPE_CHECKING:
    from typing_extensions import Buffer

pytestmark = pytest.mark.anyio
GEOMETRY = Geometry(384, 384, 3)
SLOTS = 5000  # of 442 kB: more address space than a decoder may use for an image


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def bulk(image: SpooledImage) -> Work:
    return Work("ticket", Lane.BULK, image)


async def test_no_image_is_blamed_for_decoders_that_died_idle(tmp_path: Path) -> None:
    """As many decoders die as make an image poison.

    The slots take more memory than a decoder may use, and do not count.
    """
    content = png(1)
    settings = Settings(
        data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=BLAME_LIMIT + 1)
    )
    settings.spool.mkdir()
    (settings.spool / "a").write_bytes(content)
    work = bulk(SpooledImage("a", 0, len(content), "sha"))
    before = set(multiprocessing.active_children())
    deaths: list[Death] = []
    async with (
        asyncio.timeout(PATIENCE),
        running_pool(settings, Slots(SLOTS, GEOMETRY), deaths.append) as pool,
    ):
        first = await pool.decode(work)
        assert isinstance(first, DecodedImage), first
        pool.free([first.slot])
        idle = set(multiprocessing.active_children()) - before
        assert len(idle) == BLAME_LIMIT + 1
        for decoder in idle:
            decoder.kill()
            decoder.join()
        assert await pool.decode(work) == first
        assert set(deaths) == {Death.KILLED}
        pool.free([first.slot])
        assert await pool.decode(work, lambda: False) is None, "nobody wants it any more"
        assert await pool.decode(work) == first, "its slot is free"


async def test_no_image_is_blamed_for_decoders_of_an_other_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end at once, and images wait for a restart of the service."""
    settings = settings_of(tmp_path)
    versions = iter(["0.0.1"] * 2)  # as many deaths as make an image poison

    def start(*arguments: Any) -> DecoderStart:
        return DecoderStart(*arguments, version=next(versions, __version__))

    monkeypatch.setattr(pool_module, "DecoderStart", start)
    monkeypatch.setattr(pool_module, "ended_for_its_version", lambda code: code == OTHER_VERSION)
    monkeypatch.setattr(pool_module, "FIRST_DELAY", 0.001)
    work = stored(settings, png(1))
    async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        decoded = await pool.decode(work)
    assert isinstance(decoded, DecodedImage), decoded
    assert next(versions, None) is None


def settings_of(folder: Path, **images: Any) -> Settings:
    settings = Settings(data=DataSettings(dir=folder), images=ImageSettings(decoders=1, **images))
    settings.spool.mkdir()
    return settings


def stored(settings: Settings, content: bytes) -> Work:
    """Return the work for an image that is in the spool."""
    name = hashlib.sha256(content).hexdigest()
    (settings.spool / name).write_bytes(content)
    return bulk(SpooledImage(name, 0, len(content), name))


async def test_a_decoder_in_its_box_decodes_all_formats(tmp_path: Path) -> None:
    """It can open no file but the uploaded ones, and import nothing."""
    settings = settings_of(tmp_path)
    async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        for mode, format_ in (
            ("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("RGB", "WEBP"),
            ("P", "GIF"), ("RGB", "BMP"), ("LAB", "TIFF"), ("F", "TIFF"), ("RGB", "AVIF"),
        ):  # fmt: skip
            content = encoded(in_mode(picture(), mode), format_)
            decoded = await pool.decode(stored(settings, content))
            assert isinstance(decoded, DecodedImage), (mode, format_, decoded)
            pool.free([decoded.slot])
        check_box()
        compressed = encoded(picture(), "TIFF", compression="tiff_lzw")
        assert isinstance(await pool.decode(stored(settings, compressed)), DecodedImage)


async def test_a_decoder_in_its_box_decodes_heic(tmp_path: Path) -> None:
    """Its library makes threads for a large image."""
    images = ImageSettings(decoders=1, types=("heif",))
    settings = Settings(data=DataSettings(dir=tmp_path), images=images)
    settings.spool.mkdir()
    async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        for name, size in (("red_circle", (196, 185)), ("large_gradient", (3000, 2000))):
            content = (DATA / f"{name}.heic").read_bytes()
            image = await pool.decode(stored(settings, content))
            assert isinstance(image, DecodedImage), image
            assert (image.decoded.width, image.decoded.height) == size
            pool.free([image.slot])
        check_box()
        cut = await pool.decode(stored(settings, content[: len(content) // 2]))
        assert isinstance(cut, Refused)
        assert cut.code == "corrupt_image"


@pytest.mark.parametrize("kept", [True, False])
async def test_images_that_are_handed_over_are_decoded_as_those_in_the_folder(
    tmp_path: Path, *, kept: bool
) -> None:
    """The decoder has no other way to read them. A large one is followed by a small one."""
    settings, slots = settings_of(tmp_path), Slots(4, GEOMETRY)
    async with asyncio.timeout(PATIENCE), running_pool(settings, slots) as pool:
        for content in (png(1) + bytes(3_000_000), png(2), png(3)):
            work = stored(settings, content)
            from_folder = await pool.decode(work)
            assert isinstance(from_folder, DecodedImage)
            away = SpooledImage("web0-a/1", 0, len(content), work.image.sha256)
            handed_over = await pool.decode(bulk(away if not kept else work.image), content=content)
            assert isinstance(handed_over, DecodedImage), handed_over
            assert handed_over.decoded == from_folder.decoded
            first, second = (
                slots.gather([each.slot], space()).copy() for each in (from_folder, handed_over)
            )
            pool.free([from_folder.slot, handed_over.slot])
            assert (first == second).all()


async def test_a_slot_has_a_whole_image_or_one_that_its_decoder_has_resized(tmp_path: Path) -> None:
    """The decoder resizes what a slot has no space for, and what is small."""
    settings = settings_of(tmp_path)
    slots = Slots(4, replace(GEOMETRY, whole_bytes=3 * 640 * 480))
    async with asyncio.timeout(PATIENCE), running_pool(settings, slots) as pool:
        for size in ((640, 480), (3, 2), (481, 640)):
            image = picture(*size)
            filled = await pool.decode(stored(settings, encoded(image, "PNG")))
            assert isinstance(filled, DecodedImage), filled
            assert (filled.decoded.width, filled.decoded.height) == size
            fits = size == (640, 480)
            assert filled.decoded.stored == (size if fits else (384, 384))
            expected = image if fits else image.resize((384, 384), Image.Resampling.BICUBIC)
            pixels = slots.view(filled.slot, *filled.decoded.stored)
            assert np.array_equal(pixels, np.asarray(expected))
            pool.free([filled.slot])


async def test_an_image_survives_the_death_of_the_decoder_that_it_was_handed_to(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path)
    content = png(3)
    image = bulk(SpooledImage("web0-a/1", 0, len(content), "sha"))
    before, deaths = set(multiprocessing.active_children()), list[Death]()
    running = running_pool(settings, Slots(2, GEOMETRY), deaths.append)
    async with asyncio.timeout(PATIENCE), running as pool:
        first = await pool.decode(image, content=content)
        assert isinstance(first, DecodedImage)
        pool.free([first.slot])
        (decoder,) = set(multiprocessing.active_children()) - before
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
        with capture_logs() as logs:
            waiting = asyncio.create_task(pool.decode(image, content=content))
            await asyncio.sleep(0)
            while pool._jobs._jobs.waiting(Lane.BULK):  # noqa: ASYNC110 - the queue has no event
                await asyncio.sleep(0.01)
            os.kill(decoder.pid, signal.SIGKILL)
            second = await waiting
        assert isinstance(second, DecodedImage), second
        assert [entry["event"] for entry in logs] == ["decoder_died"]
        assert deaths == [Death.KILLED]


async def test_a_lack_of_descriptors_or_memory_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is met where a decoder is started, and where an image is handed over."""
    settings, content = settings_of(tmp_path), png(3)
    image = bulk(SpooledImage("web0-a/1", 0, len(content), "sha"))
    failed = set[str]()

    class Scarce(Handover):
        def __init__(self, descriptor: int | None = None) -> None:
            fail_once(errno.EMFILE, failed)
            super().__init__(descriptor)

        def put(self, content: "Buffer") -> None:
            fail_once(errno.ENOSPC, failed)
            super().put(content)

    monkeypatch.setattr(pool_module, "Handover", Scarce)
    closed, genuine = list[int](), PrintedOutput.close

    def close(output: PrintedOutput) -> None:
        closed.append(output.descriptor)
        genuine(output)

    monkeypatch.setattr(PrintedOutput, "close", close)
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(2, GEOMETRY)) as pool:
            refused = await pool.decode(image, content=content)
            assert isinstance(refused, Refused)
            assert refused.code in RETRYABLE
            assert isinstance(await pool.decode(image, content=content), DecodedImage)
            assert len(closed) == 1, "that of the failed start"
    assert [entry["event"] for entry in logs] == ["decoder_not_started", "image_not_handed_over"]


def fail_once(number: int, failed: set[str]) -> None:
    if os.strerror(number) not in failed:
        failed.add(os.strerror(number))
        raise OSError(number, os.strerror(number))


def space() -> Pixels:
    return np.empty((1, *GEOMETRY.shape), np.uint8)


def check_box() -> None:
    """Check that the decoder is in its box: what the kernel says about it in proc(5)."""
    (decoder,) = multiprocessing.active_children()
    status = Path(f"/proc/{decoder.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert ("Seccomp:\t2" in status) == ("seccomp" not in missing_parts())


async def test_what_libraries_print_does_not_reach_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(tmp_path)
    fax = encoded(picture().convert("1"), "TIFF", compression="group4")
    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
            for at in range(400, 420):  # libtiff prints a line for each row that is damaged
                damaged = fax[:at] + b"\xff" * 40 + fax[at + 40 :]
                decoded = await pool.decode(stored(settings, damaged))
                assert isinstance(decoded, DecodedImage)
                pool.free([decoded.slot])
    assert {line["event"] for line in lines} == {"decoder_printed"}
    assert len([line for line in lines if line["log_level"] != "debug"]) == 1
    assert "Fax4Decode: Bad code word" in lines[0]["text"]
    assert capfd.readouterr() == ("", "")


async def test_an_image_takes_its_memory_from_the_budget_of_all(tmp_path: Path) -> None:
    large = blank_png(3000, 6000, 8, 2)
    settings = settings_of(tmp_path, decoders_memory=512 << 20)
    async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        decoded = await pool.decode(stored(settings, large))
        assert isinstance(decoded, DecodedImage)
        pool.free([decoded.slot])
        refused = await pool.decode(stored(settings, blank_png(50_000_000, 1, 8, 6)))
        assert isinstance(refused, Refused)
        assert refused.code == "too_much_memory"
        assert refused.code in RETRYABLE
        again = await pool.decode(stored(settings, large))
        assert again == decoded, "the decoder goes on, and its memory was given back"


async def test_an_image_that_takes_too_long_is_refused_and_logged_seldom(tmp_path: Path) -> None:
    slow = encoded(picture(4000, 3000), "JPEG")
    settings = settings_of(tmp_path, decode_seconds=0.02)
    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
            refused = await pool.decode(stored(settings, slow))
    assert isinstance(refused, Refused)
    assert refused.code == "image_too_slow"
    assert [line["event"] for line in lines] == ["decoding_too_slow"]


async def test_a_short_spool_file_is_a_storage_error_and_not_the_images_fault(
    tmp_path: Path,
) -> None:
    content = png(1)
    settings = Settings(data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=1))
    settings.spool.mkdir()
    (settings.spool / "a").write_bytes(content[:-10])
    short = SpooledImage("a", 0, len(content), "sha")
    missing = SpooledImage("b", 0, len(content), "sha")
    async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        for image in (short, missing):
            refused = await pool.decode(bulk(image))
            assert isinstance(refused, Refused)
            assert refused.code == "spool_error"
            assert refused.code in RETRYABLE


@pytest.mark.parametrize(
    "reply", ["pickle", "garbage", "too_large", "closed", "too_large_for_a_slot"]
)
async def test_a_malformed_reply_counts_as_the_death_of_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """The process that sends it is killed, twice; then its image counts as poison."""
    monkeypatch.setattr(pool_module, "DECODER", "tests.fake_decoder")
    monkeypatch.setattr(pool_module, "EXIT_SECONDS", 0.5)
    settings = Settings(data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=1))
    async with asyncio.timeout(PATIENCE), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        refused = await pool.decode(bulk(SpooledImage(reply, 0, 1, "sha")))
    assert isinstance(refused, Refused)
    assert refused.code == "poison_image"
    assert not (tmp_path / "owned").exists()
