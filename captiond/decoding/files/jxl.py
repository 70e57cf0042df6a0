"""JPEG XL files (ISO/IEC 18181): bare codestreams, and those in boxes.

How the image is turned stands in the codestream, and the library turns it. Metadata, and data to
restore a JPEG file, are left out.
"""

from captiond.decoding.files.iso_boxes import boxes
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage

CODESTREAM = b"\xff\x0a"
WHOLE, PART = b"jxlc", b"jxlp"
INDEX_BYTES = 4  # the number of a part, before its data
PIXEL_BYTES = 60.0  # floating-point planes, filters, and two copies of the pixels
SIZE_BITS = (9, 13, 18, 30)
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
HEADER_BYTES = 16


def plain_jxl(content: bytes) -> PlainFile:
    """Return the codestream of a JPEG XL file.

    Raises:
        CorruptImage: it has none.
        ImageTooSlow: it has too many boxes.
    """
    stream = content if content.startswith(CODESTREAM) else joined_stream(content)
    if not stream.startswith(CODESTREAM) or len(stream) < HEADER_BYTES:
        raise CorruptImage("the image has no codestream")
    width, height = BitReader(stream[2:HEADER_BYTES]).size()
    return PlainFile(stream, width, height, PIXEL_BYTES)


def joined_stream(content: bytes) -> bytes:
    """Return the codestream of a file of boxes, which may be in parts."""
    parts = []
    for kind, begin, end in boxes(content, 0, len(content)):
        if kind == WHOLE:
            return content[begin:end]
        if kind == PART:
            parts.append(content[begin + INDEX_BYTES : end])
    return b"".join(parts)


class BitReader:
    """Reads the header of a codestream, whose bits begin with the lowest one of each byte."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return value

    def size(self) -> tuple[int, int]:
        """Return the width and height of the image as it is stored."""
        small = self.take(1)
        height = self._side(small)
        ratio = self.take(3)
        if ratio == 0:
            return self._side(small), height
        over, under = RATIOS[ratio - 1]
        return height * over // under, height

    def _side(self, small: int) -> int:
        if small:
            return 8 * (self.take(5) + 1)
        return self.take(SIZE_BITS[self.take(2)]) + 1
