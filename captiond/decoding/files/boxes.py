"""AVIF and HEIF files, which consist of boxes (ISO/IEC 14496-12, 23000-22 and 23008-12).

How such an image is turned is a property of it (`irot`, `imir`), which the libraries read. Its EXIF
and XMP items are hidden from them.
"""

import struct
from collections.abc import Iterator

from captiond.decoding.files.colour_coding import ColourCoding
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage, ImageTooSlow

MAX_BOXES = 10_000
METADATA = {b"Exif", b"mime"}  # types of items
HIDDEN = b"skip"  # a type that no library reads
SIZE, COLOUR = b"ispe", b"colr"
# Planes, RGB, and Pillow's two copies. With more than 8 bits, samples take two bytes.
PIXEL_BYTES, DEEP_PIXEL_BYTES = 13.0, 20.0
AV1, HIGH_DEPTH = b"av1C", 0x40  # the configuration of the codec, and its flag


def plain_boxes(content: bytes) -> PlainFile:
    """Return a file whose metadata are hidden.

    Raises:
        CorruptImage: it does not say how large its image is.
        ImageTooSlow: it has too many boxes.
    """
    changed = bytearray(content)
    sizes: list[tuple[int, int]] = []
    for kind, begin, end in boxes(content, 0, len(content)):
        if kind == b"meta":
            hide_metadata(changed, begin + 4, end)
            sizes = image_sizes(content, begin, end)
    if not sizes:
        raise CorruptImage("the image has no size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    pixel_bytes = bytes_of_pixels(content)
    return PlainFile(bytes(changed), width, height, pixel_bytes, coding=coding_of(content))


def coding_of(content: bytes) -> ColourCoding | None:
    """Return the numbers of the first `colr` box that has them. All images of a file are alike."""
    for at in places(content, COLOUR, 0, len(content)):
        if content[at + 4 : at + 8] == b"nclx" and len(numbers := content[at + 8 : at + 12]) == 4:
            return ColourCoding(*struct.unpack(">HH", numbers))
    return None


def bytes_of_pixels(content: bytes) -> float:
    """Return the memory for each pixel, by the codec's configurations."""
    flags = [content[at + 6 : at + 7] for at in places(content, AV1, 0, len(content))]
    shallow = flags and not any(flag[0] & HIGH_DEPTH for flag in flags if flag)
    return PIXEL_BYTES if shallow else DEEP_PIXEL_BYTES


def places(content: bytes, kind: bytes, begin: int, end: int) -> Iterator[int]:
    """Yield where the kind of a box stands in a range, at most `MAX_BOXES` times."""
    at = content.find(kind, begin, end)
    for _ in range(MAX_BOXES):
        if at < 0:
            return
        yield at
        at = content.find(kind, at + 4, end)


def boxes(content: bytes | bytearray, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box in a range, and where its content begins and ends."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        begin = at + 8
        if size == 1:
            size, begin = int.from_bytes(content[begin : begin + 8], "big"), begin + 8
        until = end if size == 0 else min(end, at + size)
        if until < begin:
            return
        yield kind, begin, until
        at = until
    raise ImageTooSlow(f"the file has more than {MAX_BOXES} boxes")


def hide_metadata(content: bytearray, at: int, end: int) -> None:
    """Give items with metadata a type that is ignored."""
    for kind, begin, until in boxes(content, at, end):
        if kind == b"iinf":
            first = begin + (6 if content[begin : begin + 1] == b"\0" else 8)
            for entry, inside, _ in boxes(content, first, until):
                version = content[inside]
                place = inside + (10 if version == 3 else 8)
                if entry == b"infe" and bytes(content[place : place + 4]) in METADATA:
                    content[place : place + 4] = HIDDEN


def image_sizes(content: bytes, begin: int, end: int) -> list[tuple[int, int]]:
    """Return the sizes of all images in a `meta` box. The whole image is the largest one."""
    sizes: list[tuple[int, int]] = []
    for at in places(content, SIZE, begin, end):
        size = content[at + 8 : at + 16]
        if len(size) == 8:
            sizes.append((int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")))
    return sizes
