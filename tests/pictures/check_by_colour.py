"""Every kind of file, as captiond decodes it and as a viewer shows it, compared by colour.

`make picture-check` runs this and prints a table. It needs ImageMagick 6, libvips with its tools,
and the encoders avifenc, heif-enc and cjxl (Debian: imagemagick, libvips-tools, libavif-bin,
libheif-examples, libjxl-tools).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry
from captiond.errors import ImageError
from captiond.settings.config import ImageSettings
from tests.pictures.generated import Generated
from tests.pictures.generated_common import generated_common
from tests.pictures.generated_kinds import generated_kinds
from tests.pictures.generated_modern import generated_modern
from tests.pictures.generated_tiff import generated_tiffs
from tests.pictures.viewer import by_imagemagick, by_vips, difference

GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings(
    types=("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif", "jpeg2000", "jxl")
)
MOST = 3.0  # mean colour difference (CIE 1976)
LEAST_FILES = 300
FILES: dict[str, Callable[[], Iterator[Generated]]] = {
    "TIFF": generated_tiffs,
    "JPEG, PNG, GIF, WebP, BMP": generated_common,
    "AVIF, HEIC, JPEG 2000, JPEG XL": generated_modern,
    "raw files and others": generated_kinds,
}


@dataclass
class Outcomes:
    """What became of the files of one kind."""

    files: int = 0
    worst: float = 0.0
    refusals: list[str] = field(default_factory=list)

    def row(self, kind: str) -> str:
        worst = f"{self.worst:.2f}" if self.files > len(self.refusals) else "-"
        refused = f"{len(self.refusals)}: {self.refusals[0]}" if self.refusals else "-"
        return f"| {kind} | {self.files} | {worst} | {refused} |"


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, Outcomes]]:
    """The outcomes of all kinds, which are printed at the end."""
    set_up_pillow(SETTINGS)
    outcomes: dict[str, Outcomes] = defaultdict(Outcomes)
    yield outcomes
    print("\n\n| kind | files | worst ΔE | refused |\n|---|---|---|---|")  # noqa: T201
    for kind, each in outcomes.items():
        print(each.row(kind))  # noqa: T201
    print(f"{sum(each.files for each in outcomes.values())} files")  # noqa: T201


@pytest.mark.parametrize("files", FILES)
def test_files_are_seen_as_a_viewer_shows_them(
    files: str, tmp_path: Path, table: dict[str, Outcomes]
) -> None:
    problems = [
        f"{file.kind}, {file.name}: {problem}"
        for file in FILES[files]()
        if (problem := compared(file, tmp_path, table[file.kind]))
    ]
    assert not problems, "\n".join(problems)


def test_there_are_many_files(table: dict[str, Outcomes]) -> None:
    assert sum(each.files for each in table.values()) >= LEAST_FILES


def compared(file: Generated, folder: Path, outcomes: Outcomes) -> str:
    """Compare what captiond decodes with what a viewer shows. Return what is wrong."""
    outcomes.files += 1
    try:
        pixels, size = decode(BytesIO(file.content), GEOMETRY, SETTINGS)
    except ImageError as error:
        outcomes.refusals.append(str(error))
        right = file.refused and file.refused in str(error)
        return "" if right else f"refused: {error}"
    if file.refused:
        return "not refused"
    image = viewed(file, folder)
    expected = np.asarray(image.resize((GEOMETRY.width, GEOMETRY.height), GEOMETRY.resample))
    found = difference(pixels, expected)
    outcomes.worst = max(outcomes.worst, found)
    if size != (file.size or image.size):
        return f"the size is {size} and not {file.size or image.size}"
    return "" if file.hdr or found < MOST else f"the colour difference is {found:.1f}"


def viewed(file: Generated, folder: Path) -> Image.Image:
    """Return what a viewer shows of a file, or of its twin."""
    path = folder / f"file.{suffix_of(file)}"
    path.write_bytes(file.twin or file.content)
    if file.viewer == "vips":
        return by_vips(path)
    return by_imagemagick(path, profile=file.profiled)


def suffix_of(file: Generated) -> str:
    """Return the suffix of what is shown. ImageMagick knows by the content what a twin is."""
    return file.name.rpartition(".")[2] if not file.twin else "picture"
