"""Raw files of cameras that are TIFF files: DNG, NEF, CR2, ARW, PEF.

captiond does not develop raw data. It reads the largest JPEG that the camera has put into the file,
and tells the size of the raw image. A file that has only a thumbnail is refused.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from captiond.decoding.files.directory import Directory, Sliceable
from captiond.decoding.files.jpeg import Segments, plain_jpeg, read_segments
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage, ImageTooSlow, ImageTypeRefused

WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, MAKE = 256, 257, 259, 262, 271
STRIP_OFFSETS, STRIP_COUNTS, JPEG_OFFSET, JPEG_LENGTH = 273, 279, 513, 514
SUBFILE_TYPE, SUB_DIRECTORIES, EXIF = 254, 330, 34665
DNG_VERSION, PATTERN, CROP_SIZE = 50706, 33421, 50720
EXIF_WIDTH, EXIF_HEIGHT = 0xA002, 0xA003
RAW_KINDS = {32803, 34892}  # PhotometricInterpretation: a sensor's mosaic, and linear raw data
JPEG_COMPRESSIONS = {6, 7}
REDUCED, CR2_HEADER = 1, b"CR"
PICTURES = {0xC0, 0xC1, 0xC2}  # frames: baseline, extended, progressive
MAX_DIRECTORIES = 32
MAKERS = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"Canon": "CR2"}
LEAST_SIDE = 384  # of a preview, unless the image itself is smaller: what a captioner takes


def camera_name(content: Sliceable, directory: Directory) -> str:
    """Return the name of the kind of raw file, or an empty text if it is none."""
    preview = directory.number(SUBFILE_TYPE) & REDUCED and SUB_DIRECTORIES in directory.entries
    canon = content[8:10] == CR2_HEADER
    raw = {DNG_VERSION, PATTERN} & directory.entries.keys()
    if not (preview or canon or raw or directory.number(PHOTOMETRIC) in RAW_KINDS):
        return ""
    if DNG_VERSION in directory.entries:
        return "DNG"
    make = directory.value(MAKE, 16)
    known = (name for maker, name in MAKERS.items() if make.startswith(maker))
    return next(known, "CR2" if canon else "raw")


def preview_of(content: bytes, first: Directory, name: str) -> PlainFile:
    """Return the largest preview of a raw file.

    Raises:
        ImageTypeRefused: there is only a thumbnail, or the size of the image is unknown.
    """
    directories = list(directories_of(content, first))
    previews = [preview for each in directories for preview in jpegs_of(content, each)]
    largest = max(previews, key=lambda plain: plain.pixels, default=None)
    size = true_size(content, first, directories)
    advice = "export it as JPEG"
    if size is None:
        raise ImageTypeRefused(
            f"this is the raw file of a camera ({name}) of unknown size; {advice}"
        )
    if largest is None or max(largest.width, largest.height) < min(LEAST_SIDE, max(size)):
        raise ImageTypeRefused(
            f"this is the raw file of a camera ({name}) without a preview of its image; {advice}"
        )
    orientation = first.orientation or largest.orientation
    return replace(largest, orientation=orientation, format="JPEG", full_size=size)


def directories_of(content: bytes, first: Directory) -> Iterator[Directory]:
    """Yield the directories of a file, and those within them, at most `MAX_DIRECTORIES`."""
    waiting, seen = [first], set[int]()
    while waiting and len(seen) < MAX_DIRECTORIES:
        directory = waiting.pop(0)
        yield directory
        for at in (*directory.numbers(SUB_DIRECTORIES), directory.next):
            if at and at not in seen and len(seen) < MAX_DIRECTORIES:
                seen.add(at)
                waiting.append(Directory(content, at))


def jpegs_of(content: bytes, directory: Directory) -> Iterator[PlainFile]:
    """Yield the JPEG files that a directory points to, without raw data."""
    if directory.number(PHOTOMETRIC) in RAW_KINDS:
        return
    for at, length in ((JPEG_OFFSET, JPEG_LENGTH), (STRIP_OFFSETS, STRIP_COUNTS)):
        begin, size = directory.number(at), directory.number(length)
        packed = at == JPEG_OFFSET or directory.number(COMPRESSION) in JPEG_COMPRESSIONS
        jpeg = content[begin : begin + size]
        if packed and jpeg.startswith(b"\xff\xd8\xff"):
            with suppress(CorruptImage, ImageTooSlow):  # another preview may be sound
                if is_picture(jpeg):
                    yield plain_jpeg(jpeg)


def is_picture(jpeg: bytes) -> bool:
    """Return whether a JPEG has a picture of 8 bits; raw data are lossless and have more."""
    segments = Segments()
    read_segments(jpeg, segments)
    return segments.marker in PICTURES and segments.frame[:1] == b"\x08"


def true_size(
    content: bytes, first: Directory, directories: list[Directory]
) -> tuple[int, int] | None:
    """Return width and height of the image as it is stored: of the raw data, or by EXIF."""
    for directory in directories:
        if directory.number(PHOTOMETRIC) in RAW_KINDS:
            crop = directory.numbers(CROP_SIZE, 2)
            size = crop if len(crop) == 2 else (directory.number(WIDTH), directory.number(HEIGHT))
            if min(size) > 0:
                return size[0], size[1]
    exif = Directory(content, first.number(EXIF)) if first.number(EXIF) else None
    width, height = (exif.number(EXIF_WIDTH), exif.number(EXIF_HEIGHT)) if exif else (0, 0)
    return (width, height) if width > 0 and height > 0 else None
