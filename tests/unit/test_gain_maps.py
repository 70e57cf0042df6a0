"""Files with a gain map: the picture is what a plain viewer shows, without the gain map."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.files.boxes import coding_of, plain_boxes, size_of
from captiond.decoding.files.colour_coding import ColourCoding
from captiond.decoding.files.image_items import primary_properties
from captiond.decoding.files.iso_boxes import Box
from captiond.decoding.files.jpeg import plain_jpeg
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage
from captiond.settings.config import ImageSettings
from tests.pictures.gain_maps import (
    JOINED,
    Joined,
    associations,
    box,
    found,
    full,
    gain_map,
    jpegs_with_gain_maps,
    with_gain_map,
)
from tests.pictures.generated import encoded
from tests.pictures.sample import picture

DATA = Path(__file__).parents[1] / "data"
GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings(types=("jpeg", "avif", "heif"), max_pixels=100_000)
set_up_pillow(SETTINGS)
JPEGS = jpegs_with_gain_maps()


def shown(content: bytes) -> tuple[Pixels, tuple[int, int]]:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)


def check_same(content: bytes, plain: bytes) -> None:
    pixels, size = shown(content)
    expected, size_of_plain = shown(plain)
    assert size == size_of_plain
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("name", JPEGS)
def test_the_picture_of_a_jpeg_with_a_gain_map_is_seen(name: str) -> None:
    content, plain = JPEGS[name]
    check_same(content, plain)
    assert plain_jpeg(content).content == plain_jpeg(plain).content, "and nothing else"


def test_a_picture_that_is_cut_in_front_of_its_gain_map_is_corrupt() -> None:
    content, plain = JPEGS["baseline 1:4"]
    begin = content.rindex(b"\xff\xd8\xff")
    cut = content[: begin - len(plain) // 3] + b"\xff\xd9" + content[begin:]
    with pytest.raises(CorruptImage, match="data are missing from row"):
        shown(cut)


@pytest.mark.parametrize("joined", JOINED)
@pytest.mark.parametrize("share", [4, 0.5], ids=["smaller", "larger"])
def test_the_picture_of_an_avif_with_a_gain_map_is_seen(joined: Joined, share: float) -> None:
    plain = encoded(picture(), "AVIF", quality=90)
    size = round(picture().width / share), round(picture().height / share)
    gains = encoded(gain_map(*size), "AVIF", quality=60)
    content = with_gain_map(plain, gains, joined)
    check_same(content, plain)
    file = plain_boxes(content)
    assert (file.width, file.height) == picture().size
    assert file.coding == plain_boxes(plain).coding, "not that of the HDR image"


@pytest.mark.parametrize("joined", JOINED)
def test_the_picture_of_a_heic_with_a_gain_map_is_seen(joined: Joined) -> None:
    plain = (DATA / "red_circle.heic").read_bytes()
    gains = (DATA / "large_gradient.heic").read_bytes()
    assert plain_boxes(gains).pixels > SETTINGS.max_pixels > plain_boxes(plain).pixels
    check_same(with_gain_map(plain, gains, joined), plain)


# ---------------------------------------------------------------- items


def with_items(*tables: bytes, item: bytes = b"\0\2", version: int = 0) -> tuple[bytes, Box]:
    """Return a file with four properties, and its `meta` box. The primary item is number 2."""
    properties = (
        full(b"ispe", (50).to_bytes(4, "big") * 2),
        box(b"colr", b"nclx", bytes((0, 9, 0, 16, 0, 9, 0x80))),
        full(b"ispe", (20).to_bytes(4, "big") * 2),
        box(b"colr", b"nclx", bytes((0, 12, 0, 13, 0, 6, 0x80))),
    )
    content = full(
        b"meta",
        full(b"pitm", item, version=version),
        box(b"iprp", box(b"ipco", *properties), *tables),
    )
    return content, found(content, b"meta", 0, len(content))


def kinds(content: bytes, meta: Box) -> list[bytes]:
    return [each.kind for each in primary_properties(content, meta)]


def test_the_properties_of_the_primary_item_count() -> None:
    content, meta = with_items(associations({1: [1, 2], 2: [0x83, 4, 0, 99]}))
    owned = primary_properties(content, meta)
    assert [each.kind for each in owned] == [b"ispe", b"colr"]
    assert coding_of(content, owned) == ColourCoding(12, 13)
    file = plain_boxes(content)
    assert (file.width, file.height, file.coding) == (20, 20, ColourCoding(12, 13))


def test_long_numbers_of_items_and_properties_are_read() -> None:
    long = full(b"ipma", bytes.fromhex("00000001 00010002 01 8003"), version=1, flags=1)
    content, meta = with_items(long, item=b"\0\1\0\2", version=1)
    assert kinds(content, meta) == [b"ispe"]
    assert plain_boxes(content).width == 20


def test_without_properties_the_largest_image_counts() -> None:
    for tables in ((), (full(b"ipma", b"\0\0"),), (full(b"ipma", b"\0\0\0\2\0\2"),)):
        content, meta = with_items(*tables)
        assert kinds(content, meta) == []
        file = plain_boxes(content)
        assert (file.width, file.coding) == (50, None)


def test_a_property_that_is_cut_off_is_ignored() -> None:
    table = associations({2: [1, 2]})
    short = (full(b"ispe", b"\0\0\0"), box(b"colr", b"nclx"))
    content = full(b"meta", full(b"pitm", b"\0\2"), box(b"iprp", box(b"ipco", *short), table))
    owned = primary_properties(content, found(content, b"meta", 0, len(content)))
    assert [each.kind for each in owned] == [b"ispe", b"colr"]
    assert (size_of(content, owned), coding_of(content, owned)) == (None, None)
