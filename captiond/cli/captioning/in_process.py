"""Caption image files in this process, without a service."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from captiond.captioners.memory import within_memory
from captiond.captioners.worded import worded
from captiond.cli.captioning.command import Captioner, Result, failed_result
from captiond.cli.captioning.picture_files import FoundFile
from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Pixels
from captiond.decoding.limits import out_of_memory
from captiond.errors import ImageError, OutOfMemory, TooMuchMemory
from captiond.jobs import ENGLISH, NO_CONTEXT, Caption, Captioned
from captiond.logs import set_up_logs
from captiond.settings.config import Settings
from captiond.tagging.output import tag_fields
from captiond.tagging.vocabulary_tags import tag_of
from captiond.tags import Tag, merged
from captiond.translation.dictionary import TagDictionary
from captiond.translation.translated_result import in_its_language
from captiond.translation.translations import Attempt, translated, with_translation
from captiond.worker.loading import Loaded, identify, load

NO_MEMORY = "the device has no memory left for this image"


@dataclass(frozen=True, slots=True)
class Read:
    """The pixels of a file and the size of its image, or the error that explains their absence."""

    path: Path
    pixels: Pixels | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""
    code: str = ""


def in_process(settings: Settings) -> Captioner:
    """Return the way to caption files with the model of the settings."""

    @contextmanager
    def caption(files: list[FoundFile], console: Console) -> Iterator[Iterable[list[Result]]]:
        set_up_logs(settings.logs, process="caption")
        set_up_pillow(settings.images)
        needed = with_one_language(settings)
        with console.status("loading the model"):
            loaded = load(identify(needed, settings.model.devices[0]), needed, trial=False)
        pool = ThreadPoolExecutor()
        try:
            yield captioned_batches(files, loaded, settings, pool)
        finally:
            pool.shutdown(cancel_futures=True)

    return caption


def with_one_language(settings: Settings) -> Settings:
    """Return settings without the models of languages that nobody asks for: loading takes long."""
    translation = settings.translation
    models = {
        code: name for code, name in translation.models.items() if code == translation.language
    }
    return settings.model_copy(
        update={"translation": translation.model_copy(update={"models": models})}
    )


def captioned_batches(
    files: list[FoundFile], loaded: Loaded, settings: Settings, pool: Executor
) -> Iterator[list[Result]]:
    """Yield the results of each batch. The next batch is decoded while the model has this one."""
    size = loaded.info.batch_size
    waiting = iter(files)

    def read_some() -> list[Future[Read]]:
        some = islice(waiting, size)
        return [pool.submit(read, found, loaded, settings) for found in some]

    ahead = read_some()
    while ahead:
        batch, ahead = [future.result() for future in ahead], read_some()
        yield list(caption_batch(batch, loaded, settings))


def read(found: FoundFile, loaded: Loaded, settings: Settings) -> Read:
    """Read and decode one file."""
    path = found.path
    if found.problem:
        return Read(path, error=found.problem, code=found.code)
    try:
        with path.open("rb") as file:
            pixels, size = decode(file, loaded.captioner.geometry, settings.images)
    except ImageError as error:
        return Read(path, error=str(error), code=error.code)
    except OSError as error:
        return Read(path, error=error.strerror or str(error), code=found.code)
    except MemoryError:  # another image may need less
        return Read(path, error=str(out_of_memory()), code=TooMuchMemory.code)
    return Read(path, pixels, size)


def caption_batch(
    batch: list[Read], loaded: Loaded, settings: Settings
) -> Iterator[dict[str, Any]]:
    """Yield the result of each file of a batch, in their order."""
    pixels = [image.pixels for image in batch if image.pixels is not None]
    found = best_captions(pixels, loaded, settings)
    captions = [caption for caption in found if caption is not None]
    languages = [tag_language(settings)] * len(captions)
    tags = loaded.taggers.tag([caption.text for caption in captions], languages)
    triples = zip(captions, tags, translations(captions, loaded, settings), strict=True)
    each = iter(found)
    for image in batch:
        if image.pixels is None:
            yield failed_result(image.path, image.error, image.code)
        elif next(each) is None:
            yield failed_result(image.path, NO_MEMORY, OutOfMemory.code)
        else:
            yield captioned(image, *next(triples), loaded, settings)


def best_captions(pixels: list[Pixels], loaded: Loaded, settings: Settings) -> list[Caption | None]:
    """Return the best caption of each image, or None if the device has no memory for it.

    A batch that does not fit into memory is halved.
    """
    if not pixels:
        return []
    caption = worded(within_memory(loaded.captioner.caption), settings.captions.text_rules)
    try:
        captions = caption(np.stack(pixels), settings.default_generation, loaded.vocabulary)
        return [best for best, *_ in captions]
    except OutOfMemory:
        if len(pixels) == 1:
            return [None]
    half = len(pixels) // 2
    first = best_captions(pixels[:half], loaded, settings)
    return [*first, *best_captions(pixels[half:], loaded, settings)]


def tag_language(settings: Settings) -> str | None:
    """Return the language of the tagger. Tags of translated captions are made in English."""
    return None if settings.translation.language == ENGLISH else ENGLISH


def translations(captions: list[Caption], loaded: Loaded, settings: Settings) -> list[Attempt]:
    """Translate captions into the language of the settings, if that is not English."""
    wanted = settings.translation.language
    language = None if wanted == ENGLISH else wanted
    each = [(caption,) for caption in captions]
    return translated(each, [language] * len(captions), loaded.translators.translate)


def captioned(
    image: Read,
    caption: Caption,
    tags: tuple[Tag, ...],
    translation: Attempt,
    loaded: Loaded,
    settings: Settings,
) -> dict[str, Any]:
    """Return the result of a captioned file. Its keys come in the order of the HTTP API."""
    width, height = image.size
    english = Captioned(
        caption.text,
        (),
        loaded.info.name,
        width,
        height,
        score=caption.score,
        confidence=caption.confidence,
        raw_caption=caption.text if caption.raw is None else caption.raw,
        notes=notes_of(caption, loaded, settings),
    ).with_tags(merged(caption.tagged(tags), map(tag_of, caption.scored)), settings.tags.filter)
    whole = with_translation(english, translation)
    dictionary = loaded.dictionaries.get(whole.caption_language or ENGLISH, TagDictionary())
    result = in_its_language(whole, dictionary, settings.captions.hedge_below)
    return {
        "image_path": str(image.path),
        "caption": result.caption,
        "tags": list(result.tags),
        "error": None,
        **language_fields(result),
        "model": result.model,
        "score": result.score,
        "confidence": result.confidence,
        "alt_text": result.alt_text,
        "raw_caption": result.raw_caption,
        **({"notes": list(result.notes)} if result.notes else {}),
        "tag_details": [tag_fields(tag) for tag in result.tag_details],
        "width": width,
        "height": height,
    }


def language_fields(result: Captioned) -> dict[str, str | None]:
    """Return the language of a caption and the English caption, if it was translated."""
    if result.caption_language is None:
        return {}
    return {"caption_language": result.caption_language, "caption_en": result.caption_en}


def notes_of(caption: Caption, loaded: Loaded, settings: Settings) -> tuple[str, ...]:
    """Return what the model could not use of the settings."""
    unused = settings.generation.context and not loaded.captioner.capabilities.context
    return (*caption.notes, *([NO_CONTEXT] if unused else []))
