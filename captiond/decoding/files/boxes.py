"""AVIF and HEIF files, which consist of boxes (ISO/IEC 14496-12, 23000-22 and 23008-12).

How such an image is turned is a property of it (`irot`, `imir`), which the libraries read. Its EXIF
and XMP items are hidden from them.
"""

import struct
from collections.abc import Iterator

from captiond.decoding.files.colour_coding import ColourCoding
from captiond.decoding.files.image_items import primary_properties
from captiond.decoding.files.iso_boxes import MAX_BOXES, Box, boxes
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage

# Types of items: metadata, and what joins the picture with a gain map, which may be damaged.
TONE_MAP = b"tmap"  # also the brand of files that have such an item
NOT_NEEDED = {b"Exif", b"mime", TONE_MAP}
HIDDEN = b"skip"  # a type that no library reads
SIZE, COLOUR = b"ispe", b"colr"
# Planes, RGB, and Pillow's two copies. With more than 8 bits, samples take two bytes.
PIXEL_BYTES, DEEP_PIXEL_BYTES = 13.0, 20.0
AV1, HIGH_DEPTH = b"av1C", 0x40  # the configuration of the codec, and its flag


def plain_boxes(content: bytes) -> PlainFile:
    """Return a file whose metadata are hidden, and what makes HDR of its picture.

    Raises:
        CorruptImage: it does not say how large its image is.
        ImageTooSlow: it has too many boxes.
    """
    changed = bytearray(content)
    size, coding = None, None
    for box in boxes(content, 0, len(content)):
        if box.kind == b"ftyp":
            hide_brand(changed, box)
        if box.kind == b"meta":
            hide_items(changed, box.begin + 4, box.end)
            properties = primary_properties(content, box)
            size = size_of(content, properties) or largest_size(content, box)
            coding = coding_of(content, properties)
    if size is None:
        raise CorruptImage("the image has no size")
    return PlainFile(bytes(changed), *size, bytes_of_pixels(content), coding=coding)


def hide_brand(content: bytearray, types: Box) -> None:
    """Replace the brand that promises an item which is hidden."""
    for at in range(types.begin + 8, types.end - 3, 4):
        if content[at : at + 4] == TONE_MAP:
            content[at : at + 4] = content[types.begin : types.begin + 4]


def size_of(content: bytes, properties: list[Box]) -> tuple[int, int] | None:
    """Return the width and height that the properties of an item give."""
    for box in properties:
        size = content[box.begin + 4 : min(box.begin + 12, box.end)]
        if box.kind == SIZE and len(size) == 8:
            return int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")
    return None


def coding_of(content: bytes, properties: list[Box]) -> ColourCoding | None:
    """Return the numbers of the first `colr` property that has them."""
    for box in properties:
        kind, numbers = content[box.begin : box.begin + 4], content[box.begin + 4 : box.begin + 8]
        if box.kind == COLOUR and kind == b"nclx" and box.end - box.begin >= 8:
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


def hide_items(content: bytearray, at: int, end: int) -> None:
    """Give items that pixels do not need a type that is ignored."""
    for kind, begin, until in boxes(content, at, end):
        if kind == b"iinf":
            first = begin + (6 if content[begin : begin + 1] == b"\0" else 8)
            for entry, inside, _ in boxes(content, first, until):
                version = content[inside]
                place = inside + (10 if version == 3 else 8)
                if entry == b"infe" and bytes(content[place : place + 4]) in NOT_NEEDED:
                    content[place : place + 4] = HIDDEN


def largest_size(content: bytes, meta: Box) -> tuple[int, int] | None:
    """Return the size of the largest image, if a file does not say which one is the picture."""
    found = (
        size_of(content, [Box(SIZE, at + 4, meta.end)])
        for at in places(content, SIZE, meta.begin, meta.end)
    )
    return max(filter(None, found), key=lambda size: size[0] * size[1], default=None)
