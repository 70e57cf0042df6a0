"""A model process that a command or an actor of Ray hosts: its faults cost single images only."""

import asyncio
import fcntl
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import active_children
from pathlib import Path

import psutil
import pytest

from captiond.bulk.bulk_captioner import BulkCaptioner, BulkResult, bulk_captioner
from captiond.bulk.hosted_model import without_main_module
from captiond.bulk.interim import InterimFiles, interim_folder, remove_leftover_folders
from captiond.errors import ModelBroken, StorageFailed
from captiond.jobs import Captioned, Refused
from captiond.settings.config import (
    DataSettings,
    ImageSettings,
    LimitSettings,
    ModelSettings,
    Settings,
)
from tests.conftest import png
from tests.faults.test_poison import INJECT, marked
from tests.patience import PATIENCE

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("warm_models")]
NEIGHBOURS = 24


def settings_for(data: Path, model: str = "captiond/scenes") -> Settings:
    data.mkdir(exist_ok=True)
    return Settings(
        data=DataSettings(dir=data),
        model=ModelSettings(name=model, batch_size=4, threads=1),
        images=ImageSettings(decoders=1),
        limits=LimitSettings(file_bytes=100_000),
    )


@asynccontextmanager
async def captioner_in(data: Path) -> AsyncIterator[BulkCaptioner]:
    async with asyncio.timeout(PATIENCE), bulk_captioner(settings_for(data), "cpu") as captioner:
        yield captioner


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inject faults into the processes that are started from now on."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([INJECT, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAULT_INJECT", str(tmp_path))
    return tmp_path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def codes(results: list[BulkResult]) -> list[str | None]:
    outcomes = [result.outcome for result in results]
    return [each.code if isinstance(each, Refused) else None for each in outcomes]


async def test_what_can_be_read_is_captioned_and_nothing_is_left(
    data: Path, tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "one.png").write_bytes(png(1))
    (tmp_path / "large.png").write_bytes(png(1) + bytes(100_000))
    os.mkfifo(tmp_path / "pipe.png")
    sources = ["one.png", "none.png", "large.png", "pipe.png", "."]
    async with captioner_in(data) as captioner:
        results = [await captioner.caption_at(str(tmp_path / name)) for name in sources]
        results += [await captioner.caption_bytes(image) for image in (png(1), b"x", None)]
    assert codes(results) == [
        None,
        "reference_unreadable",
        "file_too_large",
        "reference_unreadable",
        "reference_unreadable",
        None,
        "not_an_image",
        "empty_image",
    ]
    assert results[0] == results[5]
    assert isinstance(results[0].outcome, Captioned)
    assert not any(os.scandir(temporary))


@pytest.mark.usefixtures("faults")
async def test_an_image_that_kills_a_process_fails_alone(data: Path) -> None:
    """One kills its decoder, and one the model process. The first start of the model fails."""
    images = [png(number) for number in range(NEIGHBOURS)]
    images.insert(3, marked("decoder_crash"))
    images.insert(9, marked("model_crash"))
    async with captioner_in(data) as captioner:
        results = await asyncio.gather(*(captioner.caption_bytes(image) for image in images))
    poison = {3: "poison_image", 9: "poison_image"}
    assert codes(results) == [poison.get(place) for place in range(len(images))]


async def test_a_killed_model_process_loses_no_image(data: Path) -> None:
    async with captioner_in(data) as captioner:
        await captioner.model()
        first = await captioner.caption_bytes(png(0))
        work = [asyncio.create_task(captioner.caption_bytes(png(each))) for each in range(60)]
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        model_process().send_signal(signal.SIGKILL)
        results = await asyncio.gather(*work)
    assert codes(results) == [None] * 60
    assert results[0] == first


def model_process() -> psutil.Process:
    """Return the model process of this test. Its process has other children as well: services."""
    (model,) = (each for each in active_children() if each.name.startswith("model-"))
    return psutil.Process(model.pid)


def test_models_that_are_started_at_once_leave_the_main_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setitem(sys.modules, "__main__", main)
    first, second = without_main_module(), without_main_module()
    first.__enter__()
    second.__enter__()
    assert sys.modules["__main__"] is not main
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert sys.modules["__main__"] is main


def test_of_an_image_that_does_not_fit_on_the_disk_nothing_is_left(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StorageFailed, match=f"{tmp_path.parent}.* TMPDIR"):
            InterimFiles(tmp_path).store("image", bytes(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [*tmp_path.iterdir()] == []


def test_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    with interim_folder(tmp_path) as living:
        dead = tmp_path / living.name.replace(living.name[-4:], "dead")
        dead.mkdir()
        for name in ("lock", "bulk-1"):
            (dead / name).touch()
        with interim_folder(tmp_path) as other:
            assert {*tmp_path.iterdir()} == {living, other}
        assert {*tmp_path.iterdir()} == {living}


def test_a_folder_that_another_start_has_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came between the creation of the lock file and the lock."""
    flock, begun = fcntl.flock, list[int]()

    def flock_late(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not begun:
            begun.append(file)
            remove_leftover_folders(tmp_path)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with interim_folder(tmp_path) as living:
        remove_leftover_folders(tmp_path)
        assert {*tmp_path.iterdir()} == {living}
    assert begun


async def test_a_missing_model_is_an_error_for_everybody_who_waits(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", model=str(tmp_path / "none"))
    async with asyncio.timeout(PATIENCE), bulk_captioner(settings, "cpu") as captioner:
        waiting = asyncio.create_task(captioner.caption_bytes(png(1)))
        with pytest.raises(ModelBroken, match="no model there"):
            await captioner.model()
        for work in (waiting, captioner.caption_bytes(png(2))):
            with pytest.raises(ModelBroken, match="no model there"):
                await work
