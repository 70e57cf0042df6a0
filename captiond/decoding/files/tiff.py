"""TIFF files (TIFF 6.0 and BigTIFF), of which the first image is read.

The directory is written anew at the end of the file, with the tags that pixels need.
"""

import struct

from captiond.decoding.files.directory import (
    INTEGERS,
    Directory,
    Entry,
    Sliceable,
    bounded_orientation,
    orientation_of,
)
from captiond.decoding.files.plain import UPRIGHT, PlainFile
from captiond.errors import CorruptImage, ImageTypeRefused

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, PLANES = 273, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
SAMPLE_FORMAT, XMP, PROFILE, SUBFILE_TYPE, SUB_DIRECTORIES = 339, 700, 34675, 254, 330
CAMERA_TAGS = {50706, 33421}  # DNGVersion, CFARepeatPatternDim
CAMERA_PHOTOMETRIC = {32803, 34892}  # a sensor's mosaic, and linear raw
RGB, CMYK, YCBCR, LAB = 2, 5, 6, 8  # kinds of colours
REDUCED, MOSAIC_HEADER = 1, b"CR"
# FillOrder, T4/T6 options, predictor, colour map, extra samples, JPEG tables, YCbCr
OTHERS = {266, 292, 293, 317, 320, 338, 347, 529, 530, 531, 532, 512, 513, 514, 515, 519, 520, 521}
NEEDED = OTHERS | {
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, STRIP_OFFSETS, ROWS_PER_STRIP,
    STRIP_COUNTS, PLANES, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT,
}  # fmt: skip
LISTS = {TILE_OFFSETS, TILE_COUNTS, STRIP_OFFSETS, STRIP_COUNTS}
UNDEFINED, RATIONAL, UNSIGNED, MAX_METADATA = 7, 5, 1, 1 << 22
PART_SECONDS = 8e-6  # a strip or a tile, beside its pixels


def plain_tiff(content: bytes) -> PlainFile:
    """Return a TIFF whose only directory has no metadata.

    Raises:
        CorruptImage: it has no directory with a size.
        ImageTypeRefused: it is a camera's raw file.
    """
    directory = Directory(content)
    width, height = directory.number(WIDTH), directory.number(HEIGHT)
    if width < 1 or height < 1:
        raise CorruptImage("the image has no size")
    check_camera(content, directory)
    count = part_count(directory, width, height)
    samples, bits = max(1, directory.number(SAMPLES, 1)), directory.number(BITS, 1)
    grey = samples == 1 and bits > 8
    return PlainFile(
        content=with_directory(content, directory),
        width=width,
        height=height,
        pixel_bytes=memory_of(directory, samples, bits),
        parts=f"{count} strips or tiles",
        parts_seconds=count * PART_SECONDS,
        orientation=orientation_by(directory),
        profile=directory.value(PROFILE, MAX_METADATA),
        depth=bits if grey else 0,
        unsigned=grey and directory.number(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED,
    )


def check_camera(content: Sliceable, directory: Directory) -> None:
    """Refuse the raw file of a camera, whose first image is only a preview."""
    preview = directory.number(SUBFILE_TYPE) & REDUCED and SUB_DIRECTORIES in directory.entries
    if (
        preview
        or content[8:10] == MOSAIC_HEADER
        or CAMERA_TAGS & directory.entries.keys()
        or directory.number(PHOTOMETRIC) in CAMERA_PHOTOMETRIC
    ):
        raise ImageTypeRefused("this is the raw file of a camera; export it as JPEG")


def part_count(directory: Directory, width: int, height: int) -> int:
    """Return the number of strips or tiles: that of the list, or that of the size if greater."""
    tile_width = directory.number(TILE_WIDTH) or width
    rows = directory.number(TILE_HEIGHT) or directory.number(ROWS_PER_STRIP) or height
    by_size = -(-width // tile_width) * -(-height // min(rows, height))
    return max(by_size, *(directory.entries[tag].count for tag in listed(directory)), 1)


def listed(directory: Directory) -> set[int]:
    return LISTS & directory.entries.keys()


def memory_of(directory: Directory, samples: int, bits: int) -> float:
    """Return the bytes for each pixel: in Pillow, and in a strip that may be the whole image."""
    colours = directory.number(PHOTOMETRIC)
    pillow = 4 if samples > 1 or bits > 16 or colours in {RGB, CMYK, YCBCR, LAB} else 2
    strip = 4 if colours == YCBCR else samples * -(-bits // 8)
    return pillow + strip


def orientation_by(directory: Directory) -> int:
    orientation = bounded_orientation(directory.orientation)
    if orientation != UPRIGHT:
        return orientation
    return orientation_of(b"", directory.value(XMP, MAX_METADATA))


def with_directory(content: bytes, directory: Directory) -> bytes:
    """Return the file with one more directory, which has only the needed tags and comes first."""
    entries = {tag: entry for tag, entry in directory.entries.items() if is_needed(tag, entry)}
    number, pointer, form = ("Q", "Q", "HHQ8s") if directory.big else ("H", "I", "HHI4s")
    order, at = directory.order, len(content) + len(content) % 2
    packed = b"".join(
        struct.pack(order + form, tag, entry.kind, entry.count, entry.field)
        for tag, entry in sorted(entries.items())
    )
    place = 8 if directory.big else 4
    return b"".join(
        (
            content[:place],
            struct.pack(order + pointer, at),
            content[place + struct.calcsize(pointer) :],
            b"\0" * (at - len(content)),
            struct.pack(order + number, len(entries)),
            packed,
            struct.pack(order + pointer, 0),
        )
    )


def is_needed(tag: int, entry: Entry) -> bool:
    """Return whether pixels need an entry; one of a type that it cannot have is dropped."""
    return tag in NEEDED and (entry.kind in INTEGERS or entry.kind in {UNDEFINED, RATIONAL})
