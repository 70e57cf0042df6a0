"""Types of images by their first bytes, kinds that are refused by name, JPEG 2000 and JPEG XL."""

import random
from base64 import b64encode
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.files.jpeg2000 import plain_jpeg2000
from captiond.decoding.files.jxl import BitReader, plain_jxl
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage, ImageError, ImageTypeRefused, NotAnImage
from captiond.imagetypes import HEAD_BYTES, check_type, image_type
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded
from tests.pictures.sample import in_space, picture, rgb_profile, with_alpha
from tests.pictures.viewer import difference

GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings(types=("png", "jpeg2000", "jxl"))
set_up_pillow(SETTINGS)
PLAIN = encoded(picture(), "PNG")
XML = b'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n<!-- made by hand -->\n'
JPEG_HEAD = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
IMAGES = {
    "Photoshop": b"8BPS\0\1",
    "icon": b"\0\0\1\0\1\0",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG ": b"\xef\xbb\xbf" + XML + b"<!DOCTYPE svg>\n<svg width='9'>",
    "RAF": b"FUJIFILMCCD-RAW 0201",
    "RW2": b"IIU\0\x18\0\0\0",
    "ORF": b"IIRO\x08\0\0\0",
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "XR": b"II\xbc\1",
    "TGA": bytes((0, 0, 2, *bytes(9), 2, 0, 2, 0, 24, 0)),
    "CUR": b"\0\0\2\0\1\0\x20\x20",
    "Netpbm": b"P6\n2 2\n255\n",
    "PFM": b"PF\n2 2\n-1.0\n",
    "QOI": b"qoif\0\0\0\x02",
    "EMF": b"\1\0\0\0" + bytes(36) + b" EMF",
    "DICOM": bytes(128) + b"DICM",
}
FILES = {
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "HTML ": b"\n <HTML>",
    "PDF": b"%PDF-1.7",
    "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
    "video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "ZIP": b"PK\3\4",
    "RAR": b"Rar!\x1a\7\1\0",
    "AVI": b"RIFF\0\1\0\0AVI LIST",
    "AppleDouble": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "DS_Store": b"\0\0\0\1Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "JSON": b'{"error": "not found"}',
    "JSON ": b'[\n  {"error": 1}]',
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "address of a file": b"https://example.com/cat.jpg",
    "HTTP response": b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG",
    "line break in front of an image": b"\r\n" + JPEG_HEAD,
    "byte order mark in front of an image": b"\xef\xbb\xbf\x89PNG\r\n\x1a\n",
    "byte order mark in front of an image ": b"\xef\xbb\xbf\n RIFF\0\0\0\0WEBP",
    "changed as if it were text": b"\x89PNG\n\x1a\n",
    "changed as if it were text ": JPEG_HEAD.decode("latin-1").encode(),
    " changed as if it were text": JPEG_HEAD.decode(errors="replace").encode(),
}


def shown(content: bytes) -> tuple[Pixels, tuple[int, int]]:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_another_kind_is_refused_by_its_name(name: str) -> None:
    assert image_type(IMAGES[name]) is None
    with pytest.raises(ImageTypeRefused, match=f"{name.strip()}.*convert it to JPEG or PNG"):
        check_type(IMAGES[name], ["jpeg"])


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_image_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(NotAnImage, match=f"not an image but .*{name.strip()}"):
        check_type(FILES[name], ["jpeg"])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"])
def test_an_image_in_base64_is_named(kind: str) -> None:
    content = b64encode(encoded(picture(), kind))
    with pytest.raises(NotAnImage, match="not an image but an image in base64"):
        check_type(content, ["jpeg"])
    with pytest.raises(NotAnImage, match="not an image but a data URL"):
        check_type(b"data:image/png;base64," + content, ["jpeg"])


def test_text_and_xml_are_no_drawings() -> None:
    for content in (
        b"<svgx/>",
        b"text <svg>",
        b"<?xml",
        b"P9 7",
        b"BMX bike",
        b"[draft] of {a text}",
    ):
        with pytest.raises(NotAnImage, match="not an image of a known type"):
            check_type(content, ["jpeg"])
    with pytest.raises(NotAnImage, match="XML"):
        check_type(XML + b"<feed/>", ["jpeg"])


def test_many_comments_take_no_time() -> None:
    comments = b"<!---->" * (HEAD_BYTES // 7)
    with pytest.raises(NotAnImage, match="not an image of a known type"):
        check_type(comments, ["jpeg"])
    with pytest.raises(ImageTypeRefused, match="SVG"):
        check_type(comments[:-7] + b"<svg>", ["jpeg"])


def test_a_jpeg_or_a_png_that_no_library_here_reads_is_named() -> None:
    settings = ImageSettings()
    jpeg, png = encoded(picture(), "JPEG"), encoded(picture(), "PNG")
    frame = jpeg.index(b"\xff\xc0")
    deep = jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]
    lossless = jpeg[:frame] + b"\xff\xf7" + jpeg[frame + 2 :]
    packed = png[:8] + b"\0\0\0\4CgBI\x50\0\x20\6\0\0\0\0" + png[8:]
    for content, name in ((deep, "12 bits"), (lossless, "JPEG-LS"), (packed, "CgBI")):
        with pytest.raises(ImageTypeRefused, match=f"{name}.*convert it to"):
            decode(BytesIO(content), GEOMETRY, settings)


# ---------------------------------------------------------------- JPEG 2000


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"tile_size": (64, 64)}], ids=str)
def test_jpeg_2000_is_read(options: dict[str, object]) -> None:
    for image in (picture(), picture().convert("L"), with_alpha(), with_alpha().convert("LA")):
        pixels, size = shown(encoded(image, "JPEG2000", **options))
        assert size == picture().size
        assert difference(pixels, shown(encoded(image, "PNG"))[0]) < 1
    if "tile_size" in options:  # Pillow writes tiles of 16 bits wrongly
        return
    deep = Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)
    pixels, _ = shown(encoded(deep, "JPEG2000", **options))
    assert difference(pixels, shown(encoded(picture().convert("L"), "PNG"))[0]) < 1


def test_metadata_of_a_jpeg_2000_are_left_out() -> None:
    whole = encoded(picture(), "JPEG2000")
    at = whole.index(b"jp2c") - 4
    extra = (20).to_bytes(4, "big") + b"uuid" + b"metadata 012"
    assert b"metadata" not in plain_jpeg2000(whole[:at] + extra + whole[at:]).content


def test_a_jpeg_2000_without_a_size_is_corrupt() -> None:
    stream = encoded(picture(), "JPEG2000", no_jp2=True)
    for content in (stream[:30], stream[:8] + bytes(34) + stream[42:]):
        with pytest.raises(CorruptImage, match=r"codestream|size"):
            plain_jpeg2000(content)


def test_damaged_jpeg_2000_files_give_pixels_or_an_image_error() -> None:
    check_damaged([encoded(picture(), "JPEG2000"), encoded(picture(), "JPEG2000", no_jp2=True)])


def check_damaged(whole: list[bytes]) -> None:
    rng = random.Random(2000)
    for _ in range(200):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            content[rng.choice((rng.randrange(300), rng.randrange(len(content))))] = rng.randrange(
                256
            )
        try:
            assert shown(bytes(content))[0].shape == (64, 96, 3)
        except ImageError:
            continue


# ---------------------------------------------------------------- JPEG XL


def test_jpeg_xl_is_read() -> None:
    for image in (picture(), picture().convert("L"), with_alpha(), with_alpha().convert("LA")):
        for container in (False, True):
            content = encoded(image, "JXL", lossless=True, use_container=container)
            pixels, size = shown(content)
            assert size == picture().size
            assert np.array_equal(pixels, shown(encoded(image, "PNG"))[0])


def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded() -> None:
    for size in ((8, 8), (256, 128), (192, 128), (1, 1), (77, 1031), (1200, 1000), (1600, 900)):
        plain = plain_jxl(encoded(Image.new("L", size), "JXL", effort=1))
        assert (plain.width, plain.height) == size
    with pytest.raises(CorruptImage):
        plain_jxl(b"\xff\x0a")
    with pytest.raises(CorruptImage, match=r"damaged$"):
        shown(b"\xff\x0a" + bytes(60))
    assert max(BitReader(b"\xff" * 14).size()) <= 1 << 31


def test_a_jpeg_xl_in_parts_is_joined() -> None:
    stream = encoded(picture(), "JXL", lossless=True)
    assert stream.startswith(b"\xff\x0a")
    parts = b""
    for number, piece in enumerate((stream[:50], stream[50:900], stream[900:])):
        index = (number | (0x80000000 if number == 2 else 0)).to_bytes(4, "big")
        parts += (12 + len(piece)).to_bytes(4, "big") + b"jxlp" + index + piece
    head = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
    extra = b"\0\0\0\x10xml metadata"
    assert plain_jxl(head + extra + parts).content == stream
    assert np.array_equal(shown(head + parts)[0], shown(PLAIN)[0])


def test_a_profile_of_a_jpeg_xl_or_a_jpeg_2000_is_applied() -> None:
    profile = rgb_profile("prophoto")
    stored = in_space(profile, picture())
    content = encoded(stored, "JXL", lossless=True)
    assert difference(shown(content)[0], shown(PLAIN)[0]) > 5
    jp2 = encoded(stored, "JPEG2000")
    at = jp2.index(b"colr") - 4
    old = int.from_bytes(jp2[at : at + 4], "big")
    box = (11 + len(profile)).to_bytes(4, "big") + b"colr\2\0\0" + profile
    head = jp2.index(b"jp2h") - 4
    size = int.from_bytes(jp2[head : head + 4], "big") + len(box) - old
    changed = jp2[:head] + size.to_bytes(4, "big") + jp2[head + 4 : at] + box + jp2[at + old :]
    assert difference(shown(changed)[0], shown(PLAIN)[0]) < 3


def test_damaged_jpeg_xl_files_give_pixels_or_an_image_error() -> None:
    check_damaged([encoded(picture(), "JXL"), encoded(picture(), "JXL", use_container=True)])


def test_jpeg_xl_needs_its_library() -> None:
    assert find_spec("pillow_jxl") is not None
    assert "jxl" not in ImageSettings().types
