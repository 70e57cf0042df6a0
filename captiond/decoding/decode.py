"""Decodes an image file to the pixels that a model takes. It runs in a decode process.

A file is opened only as the type that its first bytes indicate. Of an animation or a file of
several pages, only the first frame is read. Metadata never decide whether it can be: `files`
removes them.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile, UnidentifiedImageError

from captiond.decoding import bmpruns
from captiond.decoding.colours import (
    Source,
    converter,
    deepened,
    is_converted,
    keeps_colours,
    part_mode,
    to_srgb,
)
from captiond.decoding.deep import DeepImage, read_rows
from captiond.decoding.files.bmp import plain_bmp
from captiond.decoding.files.boxes import plain_boxes
from captiond.decoding.files.directory import exif_orientation
from captiond.decoding.files.gif import plain_gif
from captiond.decoding.files.jpeg import plain_jpeg
from captiond.decoding.files.jpeg2000 import plain_jpeg2000
from captiond.decoding.files.jxl import plain_jxl
from captiond.decoding.files.plain import UPRIGHT, Canvas, PlainFile
from captiond.decoding.files.png import plain_png
from captiond.decoding.files.tiff import plain_tiff
from captiond.decoding.files.webp import plain_webp
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.parts import (
    LONGEST_SIDE,
    PART_PIXELS,
    Picture,
    resized,
    rows_come_first,
    upright_size,
)
from captiond.errors import CorruptImage, EmptyImage, ImageError, ImageTooSlow, TooManyPixels
from captiond.imagetypes import HEAD_BYTES, check_type
from captiond.settings.config import ImageSettings

READERS: dict[str, tuple[str, Callable[[bytes], PlainFile]]] = {  # and Pillow's name of the format
    "jpeg": ("JPEG", plain_jpeg),
    "png": ("PNG", plain_png),
    "webp": ("WEBP", plain_webp),
    "gif": ("GIF", plain_gif),
    "bmp": ("BMP", plain_bmp),
    "tiff": ("TIFF", plain_tiff),
    "avif": ("AVIF", plain_boxes),
    "heif": ("HEIF", plain_boxes),
    "jpeg2000": ("JPEG2000", plain_jpeg2000),
    "jxl": ("JXL", plain_jxl),
}
ROW_SECONDS, ROW_BYTES = 5e-8, 16  # in Pillow, for each row
WEIGHT_BYTES = 32  # Pillow's weights of a resize, for each pixel of a side
COPIES_BYTES = 48  # of each pixel of a part while it is converted; a whole image is one part
SILENT = {"JXL"}  # formats whose library says nothing that helps a client
DAMAGED = "the image is truncated or damaged"
ROWS = 8  # of a block of a JPEG
END = 1024  # pixels at the end of a row, which show whether it is black
CORNER, FILLER = 4, {127, 128}  # pixels of a side, and the values of what is filled in
Reserve = Callable[[int], None]


def set_up_pillow(settings: ImageSettings) -> None:
    """Prepare Pillow in this process.

    captiond checks the number of pixels itself, from the header. Pillow's limit would only warn.
    """
    Image.init()  # all formats now: a process in a box can import nothing later
    bmpruns.register()
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the decoders share the cores already
    if "heif" in settings.types:
        import pi_heif

        pi_heif.register_heif_opener()
    if "jxl" in settings.types:
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = 0


def unlimited(needed: int) -> None:
    """Reserve memory in a process that has no limit of its own."""


def decode(
    file: BinaryIO, geometry: Geometry, settings: ImageSettings, reserve: Reserve = unlimited
) -> tuple[Pixels, tuple[int, int]]:
    """Return the pixels of an image file, uint8 [height, width, 3], and the (width, height) of the
    upright image.

    An image that is to stay whole has its own size, unless its colours are converted after the
    reduction. `reserve` is called with the bytes of memory that decoding takes at most, before it
    begins.

    Raises:
        ImageError: the file is not an image that can be captioned. The message says why.
        OSError: the file itself cannot be read.
    """
    content = file.read()
    if not content:
        raise EmptyImage("the file is empty")
    format_, read_plain = READERS[check_type(content[:HEAD_BYTES], settings.types)]
    try:
        plain = as_wanted(read_plain(content), settings)
        format_ = plain.format or format_
        check_size(plain.area, settings.max_pixels)
        check_parts(plain, settings.decode_seconds)
        reserve(memory_needed(plain, geometry))
        if plain.other_end:
            check_end(plain.content, plain.other_end)
        if plain.samples and plain.planes:
            planes = (Image.open(BytesIO(rows), formats=(format_,)) for rows in plain.planes())
            deep = DeepImage(read_rows(planes, plain.samples), plain.samples)
            return pixels_of(deep, plain, geometry)
        with Image.open(BytesIO(plain.content), formats=(format_,)) as image:
            check_size(Canvas(*image.size), settings.max_pixels)
            load(image, geometry, settings)
            if plain.check_rows and is_empty(image):
                plain.check_rows()
            if not (plain.ends and is_filled(image)):
                return loaded_pixels(image, plain, geometry, settings)
        check_end(*plain.ends())
        with Image.open(BytesIO(plain.content), formats=(format_,)) as image:
            load(image, geometry, settings)
            return loaded_pixels(image, plain, geometry, settings)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise CorruptImage("the image's header cannot be read") from error
    except Exception as error:  # Pillow raises whatever the damage of a file leads to
        said = "" if format_ in SILENT else str(error)
        raise CorruptImage(": ".join(filter(None, (DAMAGED, said)))) from error


def as_wanted(plain: PlainFile, settings: ImageSettings) -> PlainFile:
    """Return the file without what its colours mean, if the settings say that."""
    return plain if settings.color == "convert" else replace(plain, profile=b"", coding=None)


def check_end(first: bytes, second: bytes) -> None:
    """Refuse a JPEG whose pixels depend on the end that it got. The two files differ in that."""
    sums = checksums(first)
    for number, (one, other) in enumerate(zip(sums, checksums(second), strict=True)):
        if one != other:
            raise CorruptImage(
                f"the image is truncated: data are missing from row {number * ROWS} of "
                f"{len(sums) * ROWS} on"
            )


def checksums(content: bytes) -> list[int]:
    """Return a checksum of the pixels of each of so many `ROWS` of a JPEG."""
    with Image.open(BytesIO(content), formats=("JPEG",)) as image:
        image.load()
        width, height = image.size
        strips = ((0, top, width, min(top + ROWS, height)) for top in range(0, height, ROWS))
        return [zlib.crc32(image.crop(strip).tobytes()) for strip in strips]


def is_filled(image: Image.Image) -> bool:
    """Return whether the last pixels of a loaded JPEG are such as the library fills in for missing
    data: a middle grey.
    """
    width, height = image.size
    corner = image.crop((max(0, width - CORNER), max(0, height - CORNER), width, height))
    return set(corner.tobytes()) <= FILLER


def is_empty(image: Image.Image) -> bool:
    """Return whether the end of the last row of a loaded image, or of the last but one, is black.

    Pillow leaves a row black if the file does not have it. In an interlaced image, it may be only
    every second row that is missing.
    """
    width, height = image.size
    left = max(0, width - END)
    rows = ((left, row, width, row + 1) for row in (height - 1, height - 2) if row >= 0)
    return any(not image.crop(row).tobytes().strip(b"\0") for row in rows)


def check_size(area: Canvas, max_pixels: int) -> None:
    pixels = area.width * area.height
    if pixels > max_pixels:
        raise TooManyPixels(
            f"{area.width} x {area.height} is {pixels} pixels; at most {max_pixels} are allowed"
        )


def check_parts(plain: PlainFile, seconds: float) -> None:
    """Refuse a file that is made of so many parts that decoding cannot be done in time."""
    if plain.parts_seconds > seconds:
        raise ImageTooSlow(f"with {plain.parts}, decoding takes more than {seconds:g} seconds")
    if plain.height * ROW_SECONDS > seconds:
        raise ImageTooSlow(
            f"with {plain.height} rows, decoding takes more than {seconds:g} seconds"
        )


def memory_needed(plain: PlainFile, geometry: Geometry) -> int:
    """Return the most bytes that decoding a file takes."""
    sides = min(plain.area.width, LONGEST_SIDE) + min(plain.area.height, LONGEST_SIDE)
    area = plain.area.width * plain.area.height
    whole = geometry.stays_whole(plain.area.width, plain.area.height)
    return (
        int(plain.width * plain.height * plain.pixel_bytes)
        + plain.height * ROW_BYTES
        + plain.row_bytes
        + sides * (4 * geometry.width + WEIGHT_BYTES)
        + COPIES_BYTES * (area if whole else PART_PIXELS)
    )


def load(image: Image.Image, geometry: Geometry, settings: ImageSettings) -> None:
    """Decode an opened image; a JPEG perhaps at a fraction of its size."""
    if settings.jpeg_draft and image.format == "JPEG":
        least = max(geometry.width, geometry.height)  # it may still be rotated
        image.draft("RGB", (least, least))
    image.load()


def loaded_pixels(
    image: Image.Image, plain: PlainFile, geometry: Geometry, settings: ImageSettings
) -> tuple[Pixels, tuple[int, int]]:
    """Return the pixels of a loaded image, and its upright size before any reduction."""
    if exif := image.info.get("exif"):  # how an AVIF is turned; all other EXIF data are removed
        plain = replace(plain, orientation=exif_orientation(exif) or UPRIGHT)
    profile = image.info.get("icc_profile") or b""
    if profile and not plain.profile and settings.color == "convert":
        plain = replace(plain, profile=profile)
    size = (plain.width, plain.height) if image.format == "JPEG" else image.size
    return pixels_of(deepened(with_levels(image, plain.levels)), plain, geometry, size)


def with_levels(image: Image.Image, levels: tuple[tuple[int, ...], ...]) -> Image.Image:
    """Return a loaded image with the values that its levels mean. Indices of a palette stay."""
    bands = image.getbands()
    if image.palette or len(levels) < len(bands):
        return image
    return image.point([value for table in levels[: len(bands)] for value in table])


def pixels_of(
    image: Source, plain: PlainFile, geometry: Geometry, size: tuple[int, int] | None = None
) -> tuple[Pixels, tuple[int, int]]:
    """Return the pixels of an image, and its upright size; `size` is that before a draft."""
    mode = part_mode(image, plain)
    area = plain.canvas or Canvas(*image.size)
    picture = Picture(image, area, plain.orientation, mode, converter(image, plain, mode))
    stays_whole = geometry.stays_whole(*picture.size) and keeps_colours(mode, plain)
    reduced = (
        whole_picture(picture)
        if stays_whole and is_reduced_alike(picture, geometry)
        else reduce_picture(picture, geometry)
    )
    whole = (area.width, area.height) if plain.canvas else size or image.size
    shown = upright_size(plain.full_size or whole, plain.orientation)
    return np.asarray(to_srgb(reduced, plain)), shown


def whole_picture(picture: Picture) -> Image.Image:
    image = picture.image
    if isinstance(image, Image.Image) and picture.is_plain() and is_converted(image, picture.mode):
        return image
    return picture.rows(0, picture.size[1])


def is_reduced_alike(picture: Picture, geometry: Geometry) -> bool:
    """Return whether a device makes the same pixels of the whole picture as `reduce_picture`.

    Both share the entries of the cache. The device does what Pillow does with the whole picture.
    """
    as_pillow_would = rows_come_first(picture.size, geometry) or ready_image(picture) is not None
    return as_pillow_would and max(picture.size) <= LONGEST_SIDE


def reduce_picture(picture: Picture, geometry: Geometry) -> Image.Image:
    size, resample = (geometry.width, geometry.height), Image.Resampling(geometry.resample)
    image = ready_image(picture)
    return resized(picture, size, resample) if image is None else image.resize(size, resample)


def ready_image(picture: Picture) -> Image.Image | None:
    """Return the image that Pillow can resize as it is stored, None if that is not possible."""
    image = picture.image
    if isinstance(image, Image.Image) and picture.is_plain() and is_ready(image, picture.mode):
        return image
    return None


def is_ready(image: Image.Image, mode: str) -> bool:
    """Return whether an image can be reduced before its conversion, with the same result."""
    return is_converted(image, mode) or is_converted(image, "L")
