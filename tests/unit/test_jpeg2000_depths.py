"""JPEG 2000 images whose components do not have 8 bits, or have a sign."""

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode
from captiond.decoding.files.codestream import FIRST_COMPONENT, stream_size, transforms
from captiond.decoding.files.jpeg2000 import plain_jpeg2000
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage, ImageError, ImageTooSlow, ImageTypeRefused
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded
from tests.pictures.sample import picture, with_alpha
from tests.pictures.viewer import difference

# Eight columns of a colour each, with reversible wavelets of 16 and of 12 bits, as ImageMagick
# writes them, and with the other wavelets in 16 bits, as libvips does.
COLOURS = (
    (255, 255, 255), (0, 0, 0), (255, 0, 0), (128, 64, 32),
    (0, 255, 255), (254, 254, 254), (1, 1, 1), (90, 200, 255),
)  # fmt: skip
REVERSIBLE_16 = b64decode(
    "/0//UQAvAAAAAAAIAAAABAAAAAAAAAAAAAAACAAAAAQAAAAAAAAAAAADDwEBDwEBDwEB/1IADAAAAAEBAgQEAAH/XAAKQICI"
    "iJCIiJD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAACAAAH/k8f+DAoG4n6hX8B+wGAI"
    "1ojP/DAUAsEYlx/P/EgUCPXh+KPB/0ABQAtGtBVf3/jAKAN2+oIRz/xIQAjx2nVTa7N66ZUI/y5DaB/D/wMFgA4CGAAdqtkS"
    "Vvgvz/xIVBE0tJEl6h0BbdfovBmoP0TBa3X/f//Z"
)
REVERSIBLE_12 = b64decode(
    "/0//UQAvAAAAAAAIAAAABAAAAAAAAAAAAAAACAAAAAQAAAAAAAAAAAADCwEBCwEBCwEB/1IADAAAAAEBAgQEAAH/XAAKQGBo"
    "aHBoaHD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAABsAAH/k8fsCAbifp/AfUBgCNZ/"
    "z+QQAsEYj8/wCAAI9eH1wfmCAAtGtB/f+AAgA3gDaM/wGgAI8dp1U2uzeumVLRWfw/YIAA4CGAAdqtJ+z/AgABE0tJEl6h0B"
    "bdfovBmoPl//2Q=="
)
LOSSY_16 = b64decode(
    "/0//UQAvAAAAAAAIAAAABAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAADDwEBDwEBDwEB/1IADQECAAEBAAQEAACI/1wABUKA"
    "AP9kACUAAUNyZWF0ZWQgYnkgT3BlbkpQRUcgdmVyc2lvbiAyLjUuMP+QAAoAAAAAAIkAAf+T3/hRyBcqw5BPRhJa6CwaT3EE"
    "ZvNh+bD82H5pwQ0FnB9ww7ewtlE2Gvo6x61w8xWkYyM3mw/NOCGgoGgAJMf8HRxKf7UQp0Dk1AEZbqLEX4XmRO3KGV3hePon"
    "lMu0z/woaBz2gy4HK3AiN2sSHubEbZ0cOLMTYLG8EEC7/9k="
)
FILES = {"16": REVERSIBLE_16, "12": REVERSIBLE_12, "lossy": LOSSY_16}
COLUMNS = Geometry(4, 8, Image.Resampling.NEAREST)


def shown(content: bytes, geometry: Geometry = COLUMNS) -> Pixels:
    return decode(BytesIO(content), geometry, ImageSettings())[0]


def with_byte(stream: bytes, at: int, value: int) -> bytes:
    return stream[:at] + bytes((value,)) + stream[at + 1 :]


def with_depths(stream: bytes, *bits: int, sign: int = 0) -> bytes:
    """Return a bare codestream that says that its components have so many bits."""
    for number, each in enumerate(bits):
        stream = with_byte(stream, FIRST_COMPONENT + 3 * number, sign | (each - 1))
    return stream


@pytest.mark.parametrize("name", FILES)
def test_colours_of_more_than_8_bits_are_read(name: str) -> None:
    found = shown(FILES[name])[0].astype(int)
    assert np.abs(found - np.array(COLOURS)).max() <= 2
    assert found[0].min() == 255, "Pillow alone makes black of it"


@pytest.mark.parametrize("name", FILES)
def test_values_with_a_sign_are_moved(name: str) -> None:
    stream = FILES[name]
    bits = stream_size(stream).depth
    signed = with_depths(stream, bits, bits, bits, sign=0x80)
    assert np.array_equal(shown(signed), shown(stream))


@pytest.mark.parametrize("bits", [1, 2, 4, 5, 7])
def test_white_of_less_than_8_bits_is_white(bits: int) -> None:
    """The wavelets of 8 bits give values beyond the range of fewer, which are cut to it."""
    image = Image.new("RGB", (64, 48), "white")
    image.paste("black", (0, 0, 32, 48))
    for mode in ("L", "RGB", "RGBA", "LA"):
        stream = encoded(image.convert(mode), "JPEG2000", no_jp2=True)
        found = shown(with_depths(stream, *(bits,) * len(Image.new(mode, (1, 1)).getbands())))
        assert (found[:, :3].max(), found[:, 5:].min()) == (0, 255), mode


def test_components_may_have_different_depths() -> None:
    """Opacity of one bit is common. Here it is 1 where the picture is opaque."""
    image = with_alpha()
    stream = with_depths(encoded(image, "JPEG2000", no_jp2=True), 8, 8, 8, 1)
    clear = np.asarray(image.getchannel("A")) < 128
    expected = picture().copy()
    expected.paste("white", mask=Image.fromarray(clear))
    geometry = Geometry(*picture().size[::-1], Image.Resampling.NEAREST)
    assert difference(shown(stream, geometry), np.asarray(expected)) < 0.1


def test_grey_of_9_bits_is_read() -> None:
    """Pillow takes it for 8 bits."""
    grey = Image.linear_gradient("L")
    whole = bytearray(encoded(grey, "JPEG2000", irreversible=True))
    at = whole.index(b"\xff\x4f\xff\x51")
    whole[whole.index(b"ihdr") + 14] = 8
    whole[at + FIRST_COMPONENT] = 8
    geometry = Geometry(16, 16, Image.Resampling.BOX)
    expected = np.asarray(grey.convert("RGB").resize((16, 16), Image.Resampling.BOX))
    assert np.abs(shown(bytes(whole), geometry).astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (with_byte(REVERSIBLE_16, FIRST_COMPONENT + 4, 2), "fewer pixels"),
        (with_depths(REVERSIBLE_16, 24, 24, 24), "24 bits, of which captiond reads 16"),
        (
            REVERSIBLE_16[:40] + b"\0\5" + REVERSIBLE_16[42:51] + b"\7\1\1" * 2,
            "more than four components",
        ),
    ],
    ids=["subsampled", "24 bits", "five components"],
)
def test_what_pillow_cannot_read_is_refused_by_name(stream: bytes, problem: str) -> None:
    with pytest.raises(ImageTypeRefused, match=problem):
        shown(stream)


def test_every_coding_segment_is_read() -> None:
    at = REVERSIBLE_16.index(b"\xff\x5c")
    lossy = b"\xff\x53\0\x09\1\0\1\4\4\0\0"  # of the second component
    both = REVERSIBLE_16[:at] + lossy + REVERSIBLE_16[at:]
    assert list(transforms(both)) == [1, 0]
    tile = both.index(b"\xff\x93")
    own = b"\xff\x52\0\x0c\0\0\0\1\1\1\4\4\0\0"
    assert list(transforms(both[:tile] + own + both[tile:])) == [1, 0, 0]
    with pytest.raises(ImageTypeRefused, match="two kinds of wavelets"):
        plain_jpeg2000(both)


def test_a_stream_that_does_not_say_how_it_is_coded_is_corrupt() -> None:
    with pytest.raises(CorruptImage, match="how it is coded"):
        plain_jpeg2000(REVERSIBLE_16[:52])


def test_a_stream_of_very_many_segments_is_refused() -> None:
    head = REVERSIBLE_16[: REVERSIBLE_16.index(b"\xff\x52")]
    with pytest.raises(ImageTooSlow, match="segments"):
        plain_jpeg2000(head + b"\xff\x64\0\2" * 100_001)


def test_damaged_files_give_pixels_or_an_image_error() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        content = bytearray(FILES[str(rng.choice(list(FILES)))])
        for _ in range(rng.integers(1, 5)):
            content[rng.integers(len(content))] = rng.integers(256)
        try:
            assert shown(bytes(content)).shape == (4, 8, 3)
        except ImageError:
            continue
