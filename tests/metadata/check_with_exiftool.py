"""What captiond writes, read by exiftool, and packets of exiftool, extended by captiond.

`make sidecar-check` runs this. It needs exiftool (Debian: libimage-exiftool-perl).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from captiond.photofiles.embedding import embed
from captiond.photofiles.image_words import NewWords, OtherWords
from captiond.photofiles.merging import merge
from tests.unit.test_embedding import FILES
from tests.unit.test_xmp import BOAT, PERSONS

EXIFTOOL = os.environ.get("EXIFTOOL") or shutil.which("exiftool") or "exiftool"
LISTS = {
    "XMP-dc:Subject": ["red boat", "boat", "lake"],
    "XMP-digiKam:TagsList": ["vehicle/red boat", "vehicle/boat", "nature/lake"],
    "XMP-lr:HierarchicalSubject": ["vehicle|red boat", "vehicle|boat", "nature|lake"],
}
# exiftool writes these as a person would have; maker notes and previews are the camera's.
BY_EXIFTOOL = (
    "-XMP-dc:Description=Unser Boot", "-XMP-dc:Subject=Holiday", "-XMP-xmp:Rating=4",
    "-IFD0:Artist=Anna", "-XMP-crs:Exposure2012=+0.35",
)  # fmt: skip
# What may change: facts of the file, the lists that are extended, and that a WebP announces XMP.
CHANGES = (
    "System:", "ExifTool:", "SourceFile", "XMP-dc:S", "XMP-digiKam:", "File:FileType",
    "RIFF:WebP_Flags",
)  # fmt: skip
EMBEDDED_IN = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif"}


def run(*arguments: str) -> str:
    return subprocess.run([EXIFTOOL, *arguments], check=True, capture_output=True, text=True).stdout


def read(path: Path) -> dict[str, Any]:
    """Return all fields of a file, by the group and the name that exiftool gives them."""
    (fields,) = json.loads(run("-json", "-G1", "-struct", str(path)))
    return dict(fields)


def warnings(path: Path) -> str:
    return run("-validate", "-warning", "-error", "-a", "-s3", str(path)).strip()


def suffix(name: str) -> str:
    return next(suffix for form, suffix in EMBEDDED_IN.items() if form in name)


@pytest.mark.parametrize("name", FILES)
def test_embedded_fields_and_other_fields(name: str, tmp_path: Path) -> None:
    before, after = (tmp_path / f"{stage}{suffix(name)}" for stage in ("before", "after"))
    before.write_bytes(FILES[name]())
    after.write_bytes(embed(before.read_bytes(), BOAT, overwrite=False)[0])
    old, new = read(before), read(after)
    assert new["XMP-iptcCore:AltTextAccessibility"] == BOAT.alt_text
    assert set(LISTS["XMP-dc:Subject"]) & {"red boat", "lake"} <= set(new["XMP-dc:Subject"])
    if not any(field.startswith("XMP-dc:") for field in old):
        assert new["XMP-dc:Description"] == BOAT.caption
        assert {field: new[field] for field in LISTS} == LISTS
    kept = {field: value for field, value in old.items() if not field.startswith(CHANGES)}
    assert {field: new.get(field) for field in kept} == kept
    assert warnings(after) == warnings(before)


@pytest.mark.parametrize("name", ["jpeg with exif", "png", "lossy webp", "compressed tiff"])
def test_what_exiftool_wrote_is_extended(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix(name)}"
    path.write_bytes(FILES[name]())
    run("-overwrite_original", *BY_EXIFTOOL, str(path))
    content, merged = embed(path.read_bytes(), BOAT, overwrite=False)
    path.write_bytes(content)
    fields = read(path)
    assert merged.kept == ("description",)
    assert fields["XMP-dc:Description"] == "Unser Boot"
    assert fields["XMP-dc:Subject"] == ["Holiday", "red boat", "boat", "lake"]
    assert fields["XMP-xmp:Rating"] == 4
    assert fields["XMP-crs:Exposure2012"] == "+0.35"
    assert fields["IFD0:Artist"] == "Anna"


def test_exiftool_keeps_what_captiond_notes(tmp_path: Path) -> None:
    """Another program changes the file. captiond still knows its own words, and replaces them."""
    path = tmp_path / "image.jpg"
    path.write_bytes(embed(FILES["jpeg"](), BOAT, overwrite=False)[0])
    run("-overwrite_original", "-XMP-dc:Subject+=Holiday", "-XMP-xmp:Rating=5", str(path))
    new = NewWords("a dog", (("dog", "animal"),), "m", "A dog.")
    path.write_bytes(embed(path.read_bytes(), new, overwrite=True)[0])
    fields = read(path)
    assert fields["XMP-dc:Description"] == "a dog"
    assert sorted(fields["XMP-dc:Subject"]) == ["Holiday", "dog"]
    assert fields["XMP-lr:HierarchicalSubject"] == "animal|dog" or fields[
        "XMP-lr:HierarchicalSubject"
    ] == ["animal|dog"]
    assert fields["XMP-xmp:Rating"] == 5


@pytest.mark.parametrize("packet", [b"", PERSONS], ids=["new", "merged"])
def test_an_xmp_file(packet: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg.xmp"
    path.write_bytes(merge(packet, BOAT, OtherWords(), overwrite=False).packet)
    fields = read(path)
    assert fields["XMP-iptcCore:AltTextAccessibility"] == BOAT.alt_text
    assert {"red boat", "lake"} <= set(fields["XMP-dc:Subject"])
    assert "XMP-xmp:Rating" in fields or not packet
    assert warnings(path) == "OK"
