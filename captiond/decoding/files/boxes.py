"""AVIF and HEIF files, which consist of boxes (ISO/IEC 14496-12, 23000-22 and 23008-12).

How such an image is turned is a property of it (`irot`, `imir`), which the libraries read. Its EXIF
and XMP items are hidden from them.
"""

import struct
from collections.abc import Iterator

from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage, ImageTooSlow

MAX_BOXES = 10_000
METADATA = {b"Exif", b"mime"}  # types of items
HIDDEN = b"skip"  # a type that no library reads
SIZE = b"ispe"
PIXEL_BYTES = 20.0  # planes of up to 12 bits, RGB, and Pillow's two copies


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
    return PlainFile(bytes(changed), width, height, PIXEL_BYTES)


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
    at = content.find(SIZE, begin, end)
    while at >= 0 and len(sizes) < MAX_BOXES:
        size = content[at + 8 : at + 16]
        if len(size) == 8:
            sizes.append((int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")))
        at = content.find(SIZE, at + 4, end)
    return sizes
