"""Runs of `captiond caption` in this process, by a captioner whose captions are known."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from captiond.cli.captioning.command import caption_paths, failed_result
from captiond.cli.captioning.destinations import TextSidecar
from captiond.cli.captioning.picture_files import FoundFile
from captiond.cli.captioning.result_choices import SidecarKind, TextContent, XmpName
from captiond.cli.captioning.result_options import Given, result_options
from captiond.cli.formats import Format
from tests.conftest import png

NOBODY = 65534
FULL, STEM = XmpName.FULL, XmpName.STEM


def asked(
    *kinds: str,
    output: Path | None = None,
    formats: tuple[Format, ...] = (),
    embed: bool = False,
    text: str = "caption",
    prefix: str = "",
    suffix: str = "",
    xmp_name: XmpName = FULL,
    skip: bool = False,
    overwrite: bool = False,
    bom: bool = False,
) -> Given:
    return Given(
        formats=list(formats),
        bom=bom,
        output=output,
        sidecars=[SidecarKind(kind) for kind in kinds],
        embed=embed,
        text=TextSidecar(TextContent(text), prefix, suffix),
        xmp_name=xmp_name,
        skip=skip,
        overwrite=overwrite,
    )


class Captions:
    """A captioner whose captions are known, which counts the images that it was asked for."""

    def __init__(self, caption: str = "a boat", stop_after: int | None = None) -> None:
        self.caption = caption
        self.asked: list[str] = []
        self._stop_after = stop_after

    @contextmanager
    def __call__(self, files: list[FoundFile], _: Console) -> Iterator[Iterator[list[Any]]]:
        yield ([self._result(found)] for found in files)

    def _result(self, found: FoundFile) -> dict[str, Any]:
        if found.problem:
            return failed_result(found.path, found.problem, found.code)
        if len(self.asked) == self._stop_after:
            raise KeyboardInterrupt
        self.asked.append(found.path.name)
        tag = {"tag": "boat", "lemma": "boat", "category": "vehicle", "kind": "noun"}
        return {
            "image_path": str(found.path),
            "caption": self.caption,
            "tags": ["boat", "sea"],
            "error": None,
            "model": "m",
            "alt_text": "A boat.",
            "tag_details": [tag, {**tag, "tag": "sea", "category": "nature"}],
            "width": 1,
            "height": 1,
        }


def three_images(folder: Path) -> Path:
    """Write three images into a folder. Return the folder."""
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        (folder / name).write_bytes(png(number))
    return folder


def run(folder: Path, given: Given, captions: Captions | None = None) -> bool:
    return caption_paths([folder], captions or Captions(), result_options(given))


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
