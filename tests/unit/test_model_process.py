"""A model process, with a toy captioner, from its start to its end."""

import asyncio
import multiprocessing
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from captiond.captioners.families import FAMILIES
from captiond.jobs import Captioned, Generation, Lane, Options, Refused
from captiond.messages import (
    Alive,
    Begun,
    CacheReady,
    Drain,
    Finished,
    Go,
    Measured,
    Message,
    Ready,
    Unready,
    Work,
)
from captiond.processes.channel import Channel
from captiond.processes.start import ModelStart
from captiond.settings.config import DataSettings, ImageSettings, ModelSettings, Settings
from captiond.settings.option_settings import TranslationSettings
from captiond.spool import open_spool
from captiond.translation.marian import MarianTranslator
from captiond.translation.translations import UNAVAILABLE
from captiond.translation.translator import Sentence
from captiond.worker.process import run
from tests.conftest import png
from tests.marian import write_marian
from tests.patience import PATIENCE
from tests.toy import toy_family, write_toy

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("loaded_pipelines")]


@pytest.fixture
def settings(tmp_path: Path, migrated_file: Path) -> Settings:
    data = tmp_path / "data"
    settings = Settings(
        data=DataSettings(dir=data),
        model=ModelSettings(name=str(write_toy(tmp_path / "toy")), batch_size=2),
        images=ImageSettings(decoders=1),
    )
    settings.spool.mkdir(parents=True)
    shutil.copy(migrated_file, data / "captiond.db")
    return settings


@asynccontextmanager
async def model_process(settings: Settings) -> AsyncIterator[Channel]:
    """The supervisor's end of a model process that runs in this event loop, until its end."""
    ours, theirs = multiprocessing.Pipe()
    channel = await Channel.open(ours)
    start = ModelStart("model0-1f", os.getpid(), settings, theirs, "cpu")
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(run(start))
        channel.send(Go())
        yield channel
    channel.close()


async def next_message(channel: Channel) -> Message:
    """The next message that is about work or about the model."""
    while isinstance(message := await channel.receive(), Alive | Begun | Measured):
        pass
    return message


async def spooled(
    settings: Settings, ticket: str, number: int, options: Options | None = None
) -> Work:
    """Work for an image that is in the spool."""
    writer = open_spool(settings).writer("web0", durable=False)
    writer.begin()
    writer.write(memoryview(png(number)))
    image = writer.end()
    await writer.commit()
    return Work(ticket, Lane.BULK, image, options=options or Options())


async def test_known_images_are_finished_while_the_model_is_loading(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "toy", toy_family())
    async with model_process(settings) as channel:
        assert isinstance(await next_message(channel), CacheReady)
        assert isinstance(await next_message(channel), Ready)
        channel.send(await spooled(settings, "first", 1))
        finished = await next_message(channel)
        assert isinstance(finished, Finished)
        assert isinstance(finished.outcome, Captioned)
        assert not finished.outcome.cached
        channel.send(Drain())
    may_load = threading.Event()
    monkeypatch.setitem(FAMILIES, "toy", toy_family(may_load))
    async with model_process(settings) as channel:
        try:
            assert isinstance(await next_message(channel), CacheReady)
            channel.send(await spooled(settings, "new", 2))
            channel.send(await spooled(settings, "known", 1))
            known = await next_message(channel)
            assert isinstance(known, Finished)
            assert known.ticket == "known"
            assert isinstance(known.outcome, Captioned)
            assert known.outcome.cached
            channel.send(replace(await spooled(settings, "known too", 1), known_only=True))
            known = await next_message(channel)
            assert isinstance(known, Finished)
            assert isinstance(known.outcome, Captioned)
            channel.send(replace(await spooled(settings, "unknown", 3), known_only=True))
            unknown = await next_message(channel)
            assert isinstance(unknown, Finished)
            assert isinstance(unknown.outcome, Refused)
            assert (unknown.outcome.code, unknown.outcome.status) == ("model_not_ready", 503)
        finally:
            may_load.set()
        assert isinstance(await next_message(channel), Ready)
        new = await next_message(channel)
        assert isinstance(new, Finished)
        assert new.ticket == "new"
        assert isinstance(new.outcome, Captioned)
        assert not new.outcome.cached
        channel.send(Drain())


async def test_more_images_than_slots_wait_for_a_slot(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that came while the model was loading may be more than a loaded model takes."""
    may_load = threading.Event()
    monkeypatch.setitem(FAMILIES, "toy", toy_family(may_load))
    async with model_process(settings) as channel:
        try:
            message = await next_message(channel)
            assert isinstance(message, CacheReady)
            count = 20
            assert count <= message.window
            for number in range(count):
                channel.send(await spooled(settings, str(number), number))
        finally:
            may_load.set()
        ready = await next_message(channel)
        assert isinstance(ready, Ready)
        assert ready.window < count
        finished = [await next_message(channel) for _ in range(count)]
        assert {message.ticket for message in finished if isinstance(message, Finished)} == {
            str(number) for number in range(count)
        }
        channel.send(Drain())


async def test_an_option_that_the_model_does_not_support_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "toy", toy_family())
    async with model_process(settings) as channel:
        assert isinstance(await next_message(channel), CacheReady)
        assert isinstance(await next_message(channel), Ready)
        channel.send(await spooled(settings, "1", 1, Options(generation=Generation(prompt="a"))))
        finished = await next_message(channel)
        assert isinstance(finished, Finished)
        assert isinstance(finished.outcome, Refused)
        assert finished.outcome.code == "option_not_supported"
        channel.send(Drain())


async def test_a_model_that_cannot_be_loaded_is_reported(settings: Settings) -> None:
    async with model_process(settings) as channel:
        assert isinstance(await next_message(channel), CacheReady)
        unready = await next_message(channel)
        assert isinstance(unready, Unready)
        assert unready.code == "model_broken"
        assert "'toy'" in unready.reason


async def test_a_translation_that_fails_once_is_tried_again_the_next_time(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The English caption must not be in the cache as the German one."""
    monkeypatch.setitem(FAMILIES, "toy", toy_family())
    models = {"de": str(write_marian(tmp_path / "opus"))}
    german = settings.model_copy(update={"translation": TranslationSettings(models=models)})
    outcomes = []
    async with model_process(german) as channel:
        assert isinstance(await next_message(channel), CacheReady)
        assert isinstance(await next_message(channel), Ready)
        for ticket in ("no memory", "first", "known"):
            with monkeypatch.context() as patched:
                patched.setattr(MarianTranslator, "translate", answering(ticket))
                asked = Options(caption_language="de")
                channel.send(await spooled(german, ticket, 1, asked))
                finished = await next_message(channel)
            assert isinstance(finished, Finished)
            assert isinstance(finished.outcome, Captioned)
            outcomes.append(finished.outcome)
        channel.send(Drain())
    failed, first, known = outcomes
    assert (failed.caption, failed.caption_en, failed.notes) == (
        "a dark image",
        None,
        (UNAVAILABLE,),
    )
    assert (first.caption, first.caption_en, first.cached) == ("ein Bild", "a dark image", False)
    assert known == replace(first, cached=True)


def answering(ticket: str) -> Callable[[object, list[str]], list[Sentence]]:
    """Return what a translator does for the image with this ticket."""

    def translate(_: object, texts: list[str]) -> list[Sentence]:
        if ticket == "no memory":
            raise MemoryError
        return [Sentence("ein Bild")] * len(texts)

    return translate
