"""`captiond caption`: caption image files in this process, without a service."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from captiond.cli.formats import Format, Show, printer
from captiond.config import Settings
from captiond.decoding.decode import Pixels, decode, set_up_pillow
from captiond.errors import ImageError
from captiond.jobs import Caption
from captiond.logs import set_up_logs
from captiond.tagging.output import tagged
from captiond.tags import Tag, TagFilter
from captiond.worker.loading import Loaded, identify, load

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """The pixels of a file and the size of its image, or the error that explains their absence."""

    path: Path
    pixels: Pixels | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""
    code: str = ""


def caption_files(paths: list[Path], settings: Settings, chosen: Format) -> bool:
    """Caption image files and the images in folders. Return whether each of them has a caption.

    Standard output gets the results in order, batch by batch. Standard error gets a progress bar if
    it is a terminal.
    """
    set_up_logs(settings.logs, process="caption")
    files = list(image_files(paths))
    set_up_pillow(settings.images)
    console = Console(stderr=chosen is not Format.PEOPLE)
    with console.status("loading the model"):
        loaded = load(identify(settings, settings.model.devices[0]), settings, trial=False)
    complete = True
    with (
        progress_bar(console) as progress,
        ThreadPoolExecutor() as pool,
        printer_beside(progress, chosen) as show,
    ):
        bar = progress.add_task("captioning", total=len(files))
        for results in captioned_batches(files, loaded, settings, pool):
            for result in results:
                show(result)
                complete = complete and result["error"] is None
            progress.advance(bar, len(results))
    return complete


def progress_bar(console: Console) -> Progress:
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def printer_beside(progress: Progress, chosen: Format) -> AbstractContextManager[Show]:
    if chosen is Format.PEOPLE:
        return nullcontext(partial(show_for_people, progress.console))
    return printer(chosen, sys.stdout)


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield each named file, and each file in a named folder that has the suffix of an image."""
    for path in paths:
        if path.is_dir():
            images = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            yield from sorted(images)
        else:
            yield path


def captioned_batches(
    files: list[Path], loaded: Loaded, settings: Settings, pool: Executor
) -> Iterator[list[dict[str, Any]]]:
    """Yield the results of each batch. The next batch is decoded while the model has this one."""
    size = loaded.info.batch_size
    waiting = iter(files)

    def read_some() -> list[Future[Read]]:
        some = islice(waiting, size)
        return [pool.submit(read, path, loaded, settings) for path in some]

    ahead = read_some()
    while ahead:
        batch, ahead = [future.result() for future in ahead], read_some()
        yield list(caption_batch(batch, loaded, settings))


def read(path: Path, loaded: Loaded, settings: Settings) -> Read:
    """Read and decode one file."""
    try:
        with path.open("rb") as file:
            pixels, size = decode(file, loaded.captioner.geometry, settings.images)
    except ImageError as error:
        return Read(path, error=str(error), code=error.code)
    except OSError as error:
        return Read(path, error=str(error.strerror), code="unreadable_file")
    return Read(path, pixels, size)


def caption_batch(
    batch: list[Read], loaded: Loaded, settings: Settings
) -> Iterator[dict[str, Any]]:
    """Yield the result of each file of a batch, in their order."""
    pixels = [image.pixels for image in batch if image.pixels is not None]
    captions = best_captions(pixels, loaded, settings)
    tags = loaded.taggers.tag([caption.text for caption in captions], [None] * len(captions))
    pairs = zip(captions, tags, strict=True)
    for image in batch:
        if image.pixels is None:
            yield refused(image)
        else:
            yield captioned(image, *next(pairs), loaded.info.name, settings.tags.filter)


def best_captions(pixels: list[Pixels], loaded: Loaded, settings: Settings) -> list[Caption]:
    """Return the best caption of each image."""
    if not pixels:
        return []
    captions = loaded.captioner.caption(np.stack(pixels), settings.generation.defaults)
    return [best for best, *_ in captions]


def captioned(
    image: Read, caption: Caption, tags: tuple[Tag, ...], model: str, wanted: TagFilter
) -> dict[str, Any]:
    """Return the result of a captioned file. Its keys come in the order of the HTTP API."""
    fields = tagged(caption.text, caption.tagged(tags), wanted)
    details = fields.pop("tag_details")
    width, height = image.size
    return {
        "image_path": str(image.path),
        **fields,
        "error": None,
        "model": model,
        "score": caption.score,
        "confidence": caption.confidence,
        "tag_details": details,
        "width": width,
        "height": height,
    }


def refused(image: Read) -> dict[str, Any]:
    """Return the result of a file without a caption."""
    kept = {"image_path": str(image.path), "caption": None, "tags": None}
    return {**kept, "error": image.error, "code": image.code}


def show_for_people(console: Console, result: Mapping[str, Any]) -> None:
    console.print(result["image_path"], style="bold", markup=False, highlight=False)
    if result["error"] is not None:
        console.print(f"  {result['error']}", style="red", markup=False)
        return
    console.print(f"  {result['caption']}", markup=False, highlight=False)
    console.print(f"  {', '.join(result['tags'])}", style="dim", markup=False)
