"""A plain image file: what the pixels of an image need, without any metadata.

Pillow and the libraries behind it read metadata before they decode pixels, and refuse an image, or
spend seconds, for the sake of values that have no influence on its pixels. So each file is first
rewritten by a small reader of its format (the other modules of this package). It reads headers
only, and its work is bounded. Pillow then gets a file that has nothing else in it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from captiond.decoding.files.colour_coding import ColourCoding
from captiond.decoding.files.sample_layout import SampleLayout

UPRIGHT = 1  # the EXIF orientation of an image that is stored upright


@dataclass(frozen=True, slots=True)
class Canvas:
    """The area that an image is shown on, in pixels, and where its first frame begins in it."""

    width: int
    height: int
    left: int = 0
    top: int = 0


@dataclass(frozen=True, slots=True)
class PlainFile:
    """A file without metadata, and what its headers say.

    `width` and `height` are those of the stored frame, in pixels. `pixel_bytes` is the memory that
    decoding takes for each pixel, and `row_bytes` what it takes for rows at a time. `parts_seconds`
    is the estimated processor time that scans, strips or chunks take beside the pixels, and `parts`
    names them for an error message. `orientation` is the one of EXIF. `profile` is an ICC profile,
    or empty. `coding` says what the values of colours mean, if it is not that of sRGB. `canvas` is
    None if the first frame is the whole image. `blank_alpha` means that an alpha channel without
    any opaque pixel does not count. `other_end` is the content with another end, if the file lacks
    one: the pixels are whole if both give the same. `ends` returns two such files for a file
    that has an end, but may have lost what is before it. `check_rows` raises CorruptImage if rows
    are missing. Pillow leaves these black, so it is called only if the last rows are black.

    If `samples` is set, the pixels of the content are bytes of rows, whose samples are described by
    it, and `planes` returns such a file for each plane. `format` is Pillow's name of the format of
    the content, if it is another one than that of the file. `full_size` is the width and height of
    the image that the pixels are a preview of. `levels` says for each band of the image what its
    values mean, 0 to 255; without it, they are what they are.
    """

    content: bytes
    width: int
    height: int
    pixel_bytes: float
    row_bytes: int = 0
    parts: str = ""
    parts_seconds: float = 0.0
    orientation: int = UPRIGHT
    profile: bytes = b""
    coding: ColourCoding | None = None
    canvas: Canvas | None = None
    blank_alpha: bool = False
    other_end: bytes = b""
    samples: SampleLayout | None = None
    planes: Callable[[], Iterator[bytes]] | None = None
    ends: Callable[[], tuple[bytes, bytes]] | None = None
    check_rows: Callable[[], None] | None = None
    format: str = ""
    full_size: tuple[int, int] | None = None
    levels: tuple[tuple[int, ...], ...] = ()

    @property
    def pixels(self) -> int:
        """Return the number of pixels of the image as it is shown."""
        return self.area.width * self.area.height

    @property
    def area(self) -> Canvas:
        """Return the canvas, which is the frame itself for most images."""
        return self.canvas or Canvas(self.width, self.height)
