"""Raw files of cameras: their largest preview with the true size, or a refusal that names them."""

import random
import struct
from io import BytesIO

import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import ImageError, ImageTypeRefused
from captiond.settings.config import ImageSettings
from tests.imagefiles import LONG, SHORT, Entry, directory, encoded, long, picture, short

GEOMETRY = Geometry(64, 48, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
ASCII, BYTE = 2, 1
MOSAIC = 32803
FULL = 6000, 4000
LARGE, SMALL = (picture(*size) for size in ((600, 400), (120, 80)))
JPEG, THUMBNAIL = (encoded(image, "JPEG", quality=95) for image in (LARGE, SMALL))


def shown(content: bytes) -> tuple[Pixels, tuple[int, int]]:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)


def same(pixels: Pixels, image: bytes) -> bool:
    return bool((pixels == shown(image)[0]).all())


class RawFile:
    """A TIFF whose parts are put one behind the other; each returns where it begins."""

    def __init__(self, head: bytes = b"II*\0" + bytes(4)) -> None:
        self.content = bytearray(head)

    def add(self, data: bytes) -> int:
        at = len(self.content)
        self.content += data + bytes(len(data) % 2)
        return at

    def directory(self, *entries: Entry, following: int = 0) -> int:
        at = len(self.content)
        return self.add(directory(list(entries), at, following=following))

    def first(self, at: int) -> bytes:
        self.content[4:8] = struct.pack("<I", at)
        return bytes(self.content)


def text(tag: int, value: bytes) -> Entry:
    return (tag, ASCII, len(value), value)


def sensor(file: RawFile, size: tuple[int, int] = FULL) -> int:
    """Add the directory of a sensor's mosaic."""
    return file.directory(
        (254, LONG, 1, long(0)),
        (256, LONG, 1, long(size[0])),
        (257, LONG, 1, long(size[1])),
        (262, SHORT, 1, short(MOSAIC)),
    )


def jpeg_entries(file: RawFile, jpeg: bytes) -> tuple[Entry, ...]:
    at = file.add(jpeg)
    return ((259, SHORT, 1, short(6)), (513, LONG, 1, long(at)), (514, LONG, 1, long(len(jpeg))))


def dng(*previews: bytes, orientation: int = 1) -> bytes:
    """Return a DNG with a thumbnail first, and previews in directories within."""
    file = RawFile()
    inner = [file.directory(*jpeg_entries(file, jpeg)) for jpeg in previews]
    inner.append(sensor(file))
    return file.first(
        file.directory(
            (254, LONG, 1, long(1)),
            (256, LONG, 1, long(40)),
            (257, LONG, 1, long(30)),
            (274, SHORT, 1, short(orientation)),
            (330, LONG, len(inner), long(*inner)),
            (50706, BYTE, 4, b"\1\4\0\0"),
        )
    )


def nef() -> bytes:
    """Return a NEF: a thumbnail, the preview and the sensor in directories within."""
    file = RawFile()
    inner = [file.directory(*jpeg_entries(file, JPEG)), sensor(file)]
    return file.first(
        file.directory(
            (254, LONG, 1, long(1)),
            text(271, b"NIKON CORPORATION\0"),
            (330, LONG, 2, long(*inner)),
        )
    )


def arw() -> bytes:
    """Return an ARW: the preview in the first directory, the thumbnail in the next one."""
    file = RawFile()
    next_ = file.directory(*jpeg_entries(file, THUMBNAIL))
    raw = sensor(file)
    entries = (
        (254, LONG, 1, long(1)),
        text(271, b"SONY\0"),
        (330, LONG, 1, long(raw)),
        *jpeg_entries(file, JPEG),
    )
    return file.first(file.directory(*entries, following=next_))


def cr2(*, exif: bool = True) -> bytes:
    """Return a CR2: the picture as one strip, raw data that are a lossless JPEG, sizes in EXIF."""
    file = RawFile(b"II*\0" + bytes(4) + b"CR\2\0" + bytes(4))
    lossless = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 8, 14, *FULL[::-1], 0) + b"\xff\xda\0\2"
    raw_at = file.add(lossless.ljust(len(JPEG) + 1000, b"\1"))
    raw = file.directory(
        (259, SHORT, 1, short(6)),
        (273, LONG, 1, long(raw_at)),
        (279, LONG, 1, long(len(JPEG) + 1000)),
    )
    sizes = file.directory((0xA002, LONG, 1, long(FULL[0])), (0xA003, LONG, 1, long(FULL[1])))
    at = file.add(JPEG)
    entries: tuple[Entry, ...] = (
        (256, LONG, 1, long(600)),
        (257, LONG, 1, long(400)),
        (259, SHORT, 1, short(6)),
        text(271, b"Canon\0"),
        (273, LONG, 1, long(at)),
        (279, LONG, 1, long(len(JPEG))),
    )
    if exif:
        entries += ((34665, LONG, 1, long(sizes)),)
    return file.first(file.directory(*entries, following=raw))


@pytest.mark.parametrize(
    "content",
    [dng(THUMBNAIL, JPEG), dng(JPEG, THUMBNAIL), nef(), arw(), cr2()],
    ids=["DNG", "DNG in another order", "NEF", "ARW", "CR2"],
)
def test_the_largest_preview_is_read_and_the_true_size_told(content: bytes) -> None:
    pixels, size = shown(content)
    assert size == FULL
    assert same(pixels, JPEG)


def test_a_raw_file_is_turned_upright() -> None:
    pixels, size = shown(dng(JPEG, orientation=6))
    assert size == FULL[::-1]
    upright = LARGE.transpose(Image.Transpose.ROTATE_270)
    assert abs(pixels.astype(int) - shown(encoded(upright, "PNG"))[0]).mean() < 3


@pytest.mark.parametrize(
    ("content", "name"),
    [(dng(THUMBNAIL), "DNG"), (dng(), "DNG"), (cr2(exif=False), "CR2"), (dng(JPEG[:40]), "DNG")],
    ids=["only a thumbnail", "no preview", "no size", "a damaged preview"],
)
def test_a_raw_file_without_a_preview_or_a_size_is_refused_by_its_name(
    content: bytes, name: str
) -> None:
    with pytest.raises(ImageTypeRefused, match=rf"raw file of a camera \({name}\)"):
        shown(content)


def test_directories_that_point_to_each_other_come_to_an_end() -> None:
    file = RawFile()
    at = len(file.content)
    entries: list[Entry] = [(330, LONG, 2, long(at, at)), (50706, BYTE, 4, b"\1\4\0\0")]
    file.add(directory(entries, at, following=at))
    with pytest.raises(ImageTypeRefused):
        shown(file.first(at))


def test_damaged_raw_files_give_pixels_or_an_image_error() -> None:
    rng = random.Random(8)
    whole = [dng(THUMBNAIL, JPEG), nef(), arw(), cr2()]
    for _ in range(300):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            at = rng.choice((rng.randrange(16), rng.randrange(len(content) - 600, len(content))))
            content[at] = rng.randrange(256)
        try:
            assert shown(bytes(content))[0].shape == (64, 48, 3)
        except ImageError:
            continue
