"""A lack of memory while `captiond caption` works: it costs one image, and not the others."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from captiond.captioners.devices import BatchPixels
from captiond.captioners.protocol import Placement
from captiond.cli.captioning import in_process
from captiond.cli.captioning.picture_files import FoundFile
from captiond.decoding.decode import decode as genuine
from captiond.jobs import Caption, Generation
from captiond.settings.config import Settings
from captiond.tagging.tagger import Taggers
from captiond.translation.translators import Translators
from captiond.vocabulary import Vocabulary
from tests.conftest import png
from tests.toy import ToyCaptioner

WHITE = 255


class ScarceCaptioner(ToyCaptioner):
    """It has memory for one image at a time, and for none that is white."""

    def caption(
        self, pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None = None
    ) -> list[tuple[Caption, ...]]:
        if len(pixels) > 1 or pixels.min() == WHITE:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")
        return super().caption(pixels, generation, vocabulary)


def results_of(folder: Path) -> list[dict[str, Any]]:
    loaded: Any = SimpleNamespace(
        captioner=ScarceCaptioner(["dark", "bright"], Placement(torch.device("cpu"), "fp32")),
        taggers=Taggers({}, "en"),
        info=SimpleNamespace(name="toy", batch_size=8),
        vocabulary=None,
        translators=Translators(),
        dictionaries={},
    )
    files = [FoundFile(path) for path in sorted(folder.iterdir())]
    with ThreadPoolExecutor(1) as pool:
        batches = in_process.captioned_batches(files, loaded, Settings(), pool)
        return [{**result} for batch in batches for result in batch]


def test_a_batch_without_memory_is_halved(tmp_path: Path) -> None:
    for number, shade in enumerate((10, WHITE, 20, 30)):
        Image.new("RGB", (9, 9), (shade, shade, shade)).save(tmp_path / f"{number}.png")
    results = results_of(tmp_path)
    assert [result.get("code") for result in results] == [None, "out_of_memory", None, None]
    assert "no memory left" in results[1]["error"]


def test_an_image_that_is_too_large_to_decode_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(png(number))

    def decode(file: Any, *others: Any) -> Any:
        if file.name.endswith("1.png"):
            raise MemoryError
        return genuine(file, *others)

    monkeypatch.setattr(in_process, "decode", decode)
    assert [result.get("code") for result in results_of(tmp_path)] == ["too_much_memory", None]
