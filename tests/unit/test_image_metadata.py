"""Metadata never decide whether an image can be captioned. Of them, only the orientation counts."""

import re
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage, ImageTypeRefused
from captiond.settings.config import ImageSettings
from tests.imagefiles import (
    ASCII,
    EXIF_HEADER,
    LONG,
    ORIENTATION,
    RATIONAL,
    SHORT,
    SIGNED_RATIONAL,
    Entry,
    chunk,
    directory,
    encoded,
    exif_block,
    long,
    oriented,
    picture,
    short,
    tiff_of,
    tiff_tags,
    with_chunks,
    with_exif,
    with_segment,
)

GEOMETRY = Geometry(64, 48, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
JPEG = encoded(picture(), "JPEG", quality=95)
PNG = encoded(picture(), "PNG")
UPRIGHT: Entry = (ORIENTATION, SHORT, 1, short(1))
XAP = b"http://ns.adobe.com/xap/1.0/\0"


def pixels_of(content: bytes) -> Pixels:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)[0]


def half_turned(pixels: Pixels) -> Pixels:
    return pixels[::-1, ::-1]


def is_same(content: bytes, as_: bytes) -> bool:
    return np.array_equal(pixels_of(content), pixels_of(as_))


ODD_EXIF = {
    "orientation of bytes": exif_block((ORIENTATION, 1, 1, b"\1")),
    "orientation of text": exif_block((ORIENTATION, ASCII, 2, b"1\0")),
    "orientation too large": exif_block((ORIENTATION, LONG, 1, long(70_000))),
    "orientation of a rational": exif_block((ORIENTATION, RATIONAL, 1, long(1, 1))),
    "orientation of a rational of 0": exif_block((ORIENTATION, RATIONAL, 1, long(1, 0))),
    "orientation of an unknown type": exif_block((ORIENTATION, 99, 1, b"\1")),
    "two orientations": exif_block((ORIENTATION, SHORT, 2, short(1, 1))),
    "resolution of text": exif_block(UPRIGHT, (0x11A, ASCII, 3, b"72\0")),
    "negative resolution": exif_block(
        UPRIGHT, (0x11A, SIGNED_RATIONAL, 1, struct.pack("<ll", -72, 1))
    ),
    "unit of text": exif_block(UPRIGHT, (0x128, ASCII, 5, b"inch\0")),
    "maker of a rational": exif_block((0x10F, RATIONAL, 1, long(1, 1)), UPRIGHT),
    "software of a float": exif_block((0x131, 11, 1, struct.pack("<f", 1.5)), UPRIGHT),
    "directory outside": exif_block(UPRIGHT, (0x8825, 9, 1, struct.pack("<l", -1))),
    "huge count": exif_block(UPRIGHT, (0x9286, 7, 0x7FFFFFFF, long(8))),
    "loop": b"II*\0" + long(8) + directory([UPRIGHT], following=8),
    "loop within": exif_block((0x8769, LONG, 1, long(8))),
    "cut off": exif_block(UPRIGHT, (0x10F, ASCII, 30, b"A" * 30))[:25],
    "offset outside": b"II*\0" + long(60_000),
    "doubled header": EXIF_HEADER + exif_block(UPRIGHT),
    "no header": b"junk",
    "empty": b"",
}


@pytest.mark.parametrize("block", ODD_EXIF.values(), ids=ODD_EXIF.keys())
def test_odd_exif_data_are_ignored_in_all_formats(block: bytes) -> None:
    assert is_same(with_exif(JPEG, block), JPEG)
    assert is_same(with_chunks(PNG, chunk(b"eXIf", block)), PNG)
    webp = encoded(picture(), "WEBP", lossless=True, exif=EXIF_HEADER + block)
    assert is_same(webp, PNG)


def test_damaged_exif_data_of_an_avif_are_ignored() -> None:
    exif = oriented(1)
    exif[0x10F] = "maker"
    whole = encoded(picture(), "AVIF", exif=exif)
    assert b"maker" in whole
    for damaged in (b"junk", b"II*\0"):
        at = whole.index(b"MM\0*") if b"MM\0*" in whole else whole.index(b"II*\0")
        assert is_same(whole[:at] + damaged + whole[at + 4 :], whole)


@pytest.mark.parametrize(
    "entry",
    [
        (ORIENTATION, 1, 1, b"\3"),
        (ORIENTATION, ASCII, 2, b"3\0"),
        (ORIENTATION, LONG, 1, long(3)),
        (ORIENTATION, RATIONAL, 1, long(3, 1)),
        (ORIENTATION, SHORT, 2, short(3, 1)),
    ],
)
def test_an_orientation_of_any_type_is_read(entry: Entry) -> None:
    broken: Entry = (0x11A, ASCII, 3, b"72\0")
    turned = pixels_of(with_exif(JPEG, exif_block(entry, broken)))
    assert np.array_equal(turned, half_turned(pixels_of(JPEG)))


def test_an_orientation_is_read_from_wherever_it_may_be() -> None:
    upright, half = pixels_of(PNG), half_turned(pixels_of(PNG))
    block = exif_block((ORIENTATION, SHORT, 1, short(3)))
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    digits = b"\nexif\n  40\n" + (EXIF_HEADER + block).hex().encode() + b"\n"
    for extra in (
        chunk(b"eXIf", block),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"tEXt", b"Raw profile type exif\0" + digits),
        chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(digits)),
    ):
        assert np.array_equal(pixels_of(with_chunks(PNG, extra)), half)
    for damaged in (
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyz"),
        chunk(b"zTXt", b"Raw profile type exif\0\0no stream"),
    ):
        assert np.array_equal(pixels_of(with_chunks(PNG, damaged)), upright)
    packed = b"XML:com.adobe.xmp\0\1\0en\0packet\0" + zlib.compress(xmp)
    assert np.array_equal(pixels_of(with_chunks(PNG, chunk(b"iTXt", packed))), half)
    by_xmp = pixels_of(with_segment(JPEG, 0xE1, XAP + xmp))
    assert np.array_equal(by_xmp, half_turned(pixels_of(JPEG)))


def test_exif_data_that_have_an_orientation_count_before_xmp() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    turned = with_segment(JPEG, 0xE1, XAP + xmp)
    assert is_same(with_exif(turned, exif_block(UPRIGHT)), JPEG)
    for unknown in (exif_block((ORIENTATION, SHORT, 1, short(0))), exif_block()):
        assert is_same(with_exif(turned, unknown), turned)
    assert is_same(grey_tiff(UPRIGHT, (700, 1, len(xmp), xmp)), grey_tiff())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_upright_one_in_every_format(orientation: int) -> None:
    for format_ in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        content = encoded(picture(), format_, exif=oriented(orientation))
        size = decode(BytesIO(content), GEOMETRY, SETTINGS)[1]
        assert size == ((90, 60) if orientation < 5 else (60, 90)), format_


def test_damage_of_chunks_that_pixels_do_not_need_is_ignored() -> None:
    wrong = 0xDEADBEEF
    for extra in (
        chunk(b"pHYs", bytes(9), wrong),
        chunk(b"tEXt", b"Software\0x", wrong),
        chunk(b"iCCP", b"Name\0\0" + zlib.compress(b"profile"), wrong),
        chunk(b"iCCP", b"Name\0\7xyz"),
        chunk(b"iCCP", b"Name\0\0no stream"),
        chunk(b"teSt", b"1234", wrong),
        chunk(b"sRGB", b""),
        chunk(b"pHYs", b"\0\0"),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", bytes(7)),
        chunk(b"acTL", bytes(4)),
        chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", bytes(26)) * 2,
        chunk(b"fcTL", b"x"),
        chunk(b"eXIf", b"", wrong),
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(3 << 20))),
    ):
        assert is_same(with_chunks(PNG, extra), PNG), extra[:20]
    assert is_same(PNG[:-12], PNG), "the end is missing"
    assert is_same(PNG + b"trailing", PNG)


def test_damaged_frames_behind_a_sound_first_one_are_ignored() -> None:
    others = [picture().rotate(90), picture().rotate(180)]
    for format_ in ("PNG", "GIF", "WEBP", "TIFF"):
        options = {"lossless": True} if format_ == "WEBP" else {}
        first = encoded(picture(), format_, **options)
        whole = encoded(picture(), format_, save_all=True, append_images=others, **options)
        damaged = whole[: len(whole) * 3 // 5] + b"\xaa" * 20 + whole[len(whole) * 3 // 5 + 20 :]
        assert is_same(damaged, first), format_
        if format_ != "TIFF":  # its directory may be at its end
            assert is_same(whole[: len(whole) * 4 // 5], first), format_


@pytest.mark.parametrize(
    "index", [b"", b"MM", b"II*\0" + long(8) + short(3), b"II*\0" + long(900_000), b"http://n"]
)
def test_a_damaged_index_of_pictures_is_ignored(index: bytes) -> None:
    assert is_same(with_segment(JPEG, 0xE2, b"MPF\0" + index), JPEG)
    assert is_same(with_segment(JPEG, 0xE0, b"JFIF\0\1"), JPEG)
    assert is_same(with_segment(JPEG, 0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed" + index), JPEG)


def grey_tiff(*extra: Entry) -> bytes:
    pixels = picture().convert("L").tobytes()
    return tiff_of([*tiff_tags(90, 60), *extra], pixels, 60)


def test_tags_of_a_tiff_that_pixels_do_not_need_are_ignored() -> None:
    for extra in (
        (282, LONG, 1, long(300)),
        (283, SIGNED_RATIONAL, 1, struct.pack("<ll", -1, 1)),
        (296, ASCII, 5, b"inch\0"),
        (700, 1, 4, b"<x:x"),
        (34675, 7, 4, b"junk"),
        (33550, 12, 3, bytes(24)),
        (65000, 99, 1, b"\1\2\3\4"),
        (34665, LONG, 1, long(0xFFFFFFFF)),
        (317, ASCII, 2, b"2\0"),
    ):
        assert is_same(grey_tiff(extra), grey_tiff()), extra


def test_a_big_tiff_is_read() -> None:
    big = encoded(picture(), "TIFF", big_tiff=True, exif=oriented(6))
    assert big[2:4] == b"+\0"
    assert is_same(big, encoded(picture(), "TIFF", exif=oriented(6)))


@pytest.mark.parametrize(("bits", "most"), [(16, 65_535), (16, 4095), (16, 1023), (32, 2**32 - 1)])
def test_grey_of_many_bits_has_the_depth_of_its_values(bits: int, most: int) -> None:
    grey = picture().convert("L")
    grey.putpixel((0, 0), 255)
    values = np.asarray(grey).astype(np.uint64) * most // 255
    raw = values.astype("<u4" if bits == 32 else "<u2").tobytes()
    pixels = pixels_of(tiff_of(tiff_tags(90, 60, bits=bits), raw, 60))
    expected = pixels_of(encoded(grey, "PNG"))
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_floats_from_minus_1_to_1_have_black_at_minus_1() -> None:
    grey = np.asarray(picture().convert("L")).astype(float)
    tags = [*tiff_tags(90, 60, bits=32), (339, SHORT, 1, short(3))]
    pixels = pixels_of(tiff_of(tags, (grey / 127.5 - 1).astype("<f4").tobytes(), 60))
    expected = pixels_of(encoded(picture().convert("L"), "PNG"))
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_the_raw_file_of_a_camera_is_refused_and_not_its_preview() -> None:
    for extra in ((50706, 1, 4, b"\1\4\0\0"), (262, SHORT, 1, short(32_803))):
        tags = [entry for entry in tiff_tags(90, 60) if entry[0] != extra[0]]
        with pytest.raises(ImageTypeRefused, match="camera"):
            pixels_of(tiff_of([*tags, extra], bytes(5400), 60))
    preview: list[Entry] = [(254, LONG, 1, long(1)), (330, LONG, 1, long(8))]
    with pytest.raises(ImageTypeRefused, match="camera"):
        pixels_of(grey_tiff(*preview))


def test_alpha_that_is_zero_everywhere_does_not_count_in_a_bmp() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 124, 90, -60, 1, 32, 3, 0, 0, 0, 0, 0)
    info = (info + masks).ljust(124, b"\0")
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(info))
    assert is_same(head + info + image.tobytes("raw", "BGRA"), PNG)


def test_a_profile_with_other_primaries_is_applied_and_a_damaged_one_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    red, green, blue = picture().split()
    exchanged = Image.merge("RGB", (green, red, blue))
    for format_ in ("PNG", "TIFF"):
        seen = pixels_of(encoded(exchanged, format_, icc_profile=swapped))
        assert np.abs(seen.astype(int) - pixels_of(PNG)).max() <= 2
    for damaged in (srgb, srgb[:200], swapped[:300] + bytes(900), b"x" * 1000):
        assert is_same(encoded(picture(), "PNG", icc_profile=damaged), PNG)


def test_a_jpeg_without_its_end_is_read_if_its_pixels_are_whole() -> None:
    for options in ({}, {"progressive": True}):
        whole = encoded(picture(900, 600), "JPEG", **options)
        assert is_same(whole[:-2], whole)
        assert is_same(whole[:-1], whole)
        assert is_same(whole[:-2] + bytes(1000), whole)
        with pytest.raises(CorruptImage, match="truncated"):
            pixels_of(whole[: len(whole) * 3 // 4])


def test_the_error_of_a_cut_jpeg_says_which_rows_are_missing() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (400, 300, 3), np.uint8)
    for image in (Image.fromarray(noise), Image.fromarray(noise[..., 0])):
        whole = encoded(image, "JPEG", subsampling=0)
        scan = whole.index(b"\xff\xda")
        half = whole[: scan + (len(whole) - scan) // 2]
        for content in (half, half + b"\xff\xd9", half + b"\xff\xd9" + b"trailing"):
            with pytest.raises(CorruptImage) as caught:
                pixels_of(content)
            found = re.search(r"data are missing from row (\d+) of 400 on", str(caught.value))
            assert found, caught.value
            assert 170 <= int(found[1]) <= 230


def test_a_jpeg_that_is_grey_at_its_end_is_whole() -> None:
    image = picture(320, 240)
    image.paste((128, 128, 128), (0, 200, 320, 240))
    for mode in ("RGB", "L", "CMYK"):
        content = encoded(image.convert(mode), "JPEG")
        assert is_same(content, content[:-2])
