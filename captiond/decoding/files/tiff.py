"""TIFF files (TIFF 6.0 and BigTIFF), of which the first image is read that is no thumbnail or mask.

The directory is written anew at the end of the file, with the tags that pixels need. If samples
have more than 8 bits or an unusual meaning, the new directory describes rows of bytes.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from captiond.decoding.files.camera import camera_name, directories_of, preview_of
from captiond.decoding.files.directory import (
    INTEGERS,
    RATIONAL,
    Directory,
    Entry,
    xmp_orientation,
)
from captiond.decoding.files.plain import PlainFile
from captiond.decoding.files.sample_layout import Photometric, SampleFormat, SampleLayout
from captiond.decoding.files.tiff_directory import number_entry, part_of, with_directory
from captiond.decoding.webp_parts import MODES, memory_of_parts, rows_of_parts
from captiond.errors import CorruptImage, ImageTypeRefused

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, PLANES = 273, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
FILL_ORDER, MAX_SAMPLE_VALUE, PREDICTOR, EXTRA_SAMPLES, SAMPLE_FORMAT = 266, 281, 317, 338, 339
XMP, PROFILE = 700, 34675
RGB, CMYK, YCBCR, LAB = 2, 5, 6, 8  # kinds of colours
SUBFILE = 254  # what an image is, in bits
THUMBNAIL_OR_MASK = 1 | 4
SUBSAMPLING = 530  # of the colours in YCbCr
# FillOrder, T4/T6 options, predictor, colour map, extra samples, JPEG tables, YCbCr
OTHERS = {266, 292, 293, 317, 320, 338, 347, 529, 530, 531, 532, 512, 513, 514, 515, 519, 520, 521}
NEEDED = OTHERS | {
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, STRIP_OFFSETS, ROWS_PER_STRIP,
    STRIP_COUNTS, PLANES, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT,
}  # fmt: skip
OF_ROWS = {
    COMPRESSION, STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, TILE_HEIGHT, TILE_OFFSETS,
    TILE_COUNTS, FILL_ORDER, HEIGHT,
}  # fmt: skip
LISTS = {TILE_OFFSETS, TILE_COUNTS, STRIP_OFFSETS, STRIP_COUNTS}
UNDEFINED, MAX_METADATA = 7, 1 << 22
PART_SECONDS, WEBP_SECONDS = 8e-6, 1e-4  # a strip or a tile, beside its pixels
# None, LZW, deflate (two numbers), PackBits, LZMA, Zstandard: they compress rows of bytes.
BYTE_COMPRESSIONS = {1, 5, 8, 32946, 32773, 34925, 50000}
# What Pillow reads beside them: CCITT, JPEG (two numbers), and CCITT with rows of whole words.
OTHER_COMPRESSIONS = {2, 3, 4, 6, 7, 32771}
WEBP = 50001  # captiond decompresses it
UNREAD_COMPRESSIONS = {
    22610: "JPEG XR", 32766: "NeXT", 32809: "ThunderScan", 32909: "PixarLog", 33003: "JPEG 2000",
    33004: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG", 34676: "SGI Log", 34677: "SGI Log",
    34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 34934: "JPEG XR",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
KNOWN_COLOURS, FORMATS = set(map(int, Photometric)), set(map(int, SampleFormat))
COMPLEX = {5, 6}
MAX_NUMBER = 64  # of samples of a pixel
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of extra samples that are opacity
WITH_OPACITY = {Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO, Photometric.RGB}
# What Pillow reads rightly with 8 bits: the kind of colours, the samples, the extra ones.
EIGHT_BITS = {
    (0, 1, ()), (1, 1, ()), (1, 2, (2,)), (RGB, 3, ()), (RGB, 4, (1,)), (RGB, 4, (2,)),
    (CMYK, 4, ()), (LAB, 3, ()),
}  # fmt: skip


def plain_tiff(content: bytes) -> PlainFile:
    """Return a TIFF whose only directory has no metadata, or the preview of a raw file.

    Raises:
        CorruptImage: it has no directory with a size, or samples of an unknown kind.
        ImageTypeRefused: it is a camera's raw file without a preview of its image, or compressed in
            a way that captiond does not read.
    """
    first = Directory(content)
    if name := camera_name(content, first):
        return preview_of(content, first, name)
    directory = directory_of_image(content, first)
    width, height = directory.number(WIDTH), directory.number(HEIGHT)
    if width < 1 or height < 1:
        raise CorruptImage("the image has no size")
    compression = directory.number(COMPRESSION, 1)
    check_compression(compression)
    check_brightness(directory, compression)
    is_webp = compression == WEBP
    layout = webp_layout(directory) if is_webp else layout_of(directory, width, height)
    count = part_count(directory, width, height)
    files = rows_of_parts if is_webp else plane_files
    planes = partial(files, content, directory, layout) if layout else None
    return PlainFile(
        content=b"" if layout else with_directory(content, directory, needed_entries(directory)),
        format="PPM" if is_webp else "",
        width=width,
        height=height,
        pixel_bytes=memory_of_samples(layout, webp=is_webp) if layout else memory_of(directory),
        parts=f"{count} strips or tiles",
        parts_seconds=count * (WEBP_SECONDS if is_webp else PART_SECONDS),
        orientation=directory.orientation or orientation_by(first),
        profile=directory.value(PROFILE, MAX_METADATA),
        samples=layout,
        planes=planes,
    )


def directory_of_image(content: bytes, first: Directory) -> Directory:
    """Return the directory of the image: that of its thumbnail or mask may stand before it."""
    directories = directories_of(content, first)
    images = (each for each in directories if not each.number(SUBFILE) & THUMBNAIL_OR_MASK)
    return next(images, first)


def check_compression(number: int) -> None:
    """Refuse a file that Pillow would call damaged, because its libtiff cannot decompress it."""
    if number not in BYTE_COMPRESSIONS | OTHER_COMPRESSIONS | {WEBP}:
        name = UNREAD_COMPRESSIONS.get(number, f"the unknown method {number}")
        raise ImageTypeRefused(
            f"this is a TIFF image compressed by {name}, which captiond does not read; convert it "
            "to PNG, or save it with LZW or Deflate"
        )


def check_brightness(directory: Directory, compression: int) -> None:
    """Refuse a file that Pillow would call truncated: it expects as many colours as pixels."""
    fewer = directory.numbers(SUBSAMPLING, 2) != (1, 1)  # a file without the tag has (2, 2)
    if directory.number(PHOTOMETRIC) == YCBCR and compression in BYTE_COMPRESSIONS and fewer:
        raise ImageTypeRefused(
            "this is a TIFF image whose colours have fewer pixels than its brightness, without "
            "JPEG, which captiond does not read; convert it to PNG"
        )


# ---------------------------------------------------------------- samples of our own


def layout_of(directory: Directory, width: int, height: int) -> SampleLayout | None:
    """Return the layout of samples that captiond reads itself, or None if Pillow does.

    Raises:
        CorruptImage: the samples of a pixel are not alike.
    """
    number = max(1, directory.number(SAMPLES, 1))
    bits = set(directory.numbers(BITS, MAX_NUMBER)) or {1}
    formats = set(directory.numbers(SAMPLE_FORMAT, MAX_NUMBER)) or {1}
    if is_read_by_pillow(directory, number, bits, formats):
        return None
    colours, extra = directory.number(PHOTOMETRIC), directory.numbers(EXTRA_SAMPLES, MAX_NUMBER)
    if len(bits) > 1 or len(formats) > 1 or number > MAX_NUMBER:
        raise CorruptImage("the samples of a pixel have different depths or kinds")
    layout = SampleLayout(
        width=width,
        height=height,
        number=number,
        bits=bits.pop(),
        format=format_of(formats.pop()),
        photometric=Photometric(colours),
        order=directory.order,
        predictor=directory.number(PREDICTOR, 1),
        tile_width=directory.number(TILE_WIDTH),
        planes=number > 1 and directory.number(PLANES, 1) == 2,
        most=directory.number(MAX_SAMPLE_VALUE),
    )
    check_layout(layout)
    return with_opacity(layout, extra)


def webp_layout(directory: Directory) -> SampleLayout:
    """Return the layout of an image whose strips or tiles are WebP images.

    Raises:
        CorruptImage: it is none of the two that WebP has.
    """
    number, bits = directory.number(SAMPLES, 1), set(directory.numbers(BITS, MAX_NUMBER))
    if number not in MODES or bits != {8} or directory.number(PLANES, 1) == 2:
        raise CorruptImage("WebP has no such samples as the file says")
    width, height = directory.number(WIDTH), directory.number(HEIGHT)
    layout = SampleLayout(width, height, number=number, bits=8, photometric=Photometric.RGB)
    return with_opacity(layout, directory.numbers(EXTRA_SAMPLES, MAX_NUMBER))


def is_read_by_pillow(directory: Directory, number: int, bits: set[int], formats: set[int]) -> bool:
    """Return whether Pillow reads these samples rightly, or captiond cannot read them."""
    colours = directory.number(PHOTOMETRIC)
    if directory.number(COMPRESSION, 1) not in BYTE_COMPRESSIONS or colours not in KNOWN_COLOURS:
        return True
    if formats != {1} or max(bits) > 8:
        return False
    extra = directory.numbers(EXTRA_SAMPLES, MAX_NUMBER)
    grey = number == 1 and colours in {0, 1}
    return grey or (bits == {8} and (colours, number, extra) in EIGHT_BITS)


def format_of(number: int) -> SampleFormat:
    if number in COMPLEX:
        raise CorruptImage("the samples of a pixel are complex numbers")
    return SampleFormat(number) if number in FORMATS else SampleFormat.UNSIGNED


def check_layout(layout: SampleLayout) -> None:
    """Refuse samples that nobody writes."""
    floating = layout.format is SampleFormat.FLOAT
    known = layout.bits in {16, 32, 64} if floating else 1 <= layout.bits <= 32
    if not known or layout.number < layout.colours:
        raise CorruptImage(f"pixels of {layout.number} samples of {layout.bits} bits are unknown")


def with_opacity(layout: SampleLayout, extra: tuple[int, ...]) -> SampleLayout:
    """Return the layout with what the first extra sample means.

    A single one of an unspecified meaning is shown as opacity, like viewers do. Several are those
    of other wavelengths.
    """
    spare = layout.number - layout.colours
    is_opacity = extra[:1] in {(ASSOCIATED,), (UNASSOCIATED,)} or spare == 1
    has_alpha = spare > 0 and is_opacity and layout.photometric in WITH_OPACITY
    return replace(layout, alpha=has_alpha, premultiplied=extra[:1] == (ASSOCIATED,))


def memory_of_samples(layout: SampleLayout, *, webp: bool) -> float:
    """Return the bytes for each pixel: the rows in Pillow, a strip, and the array."""
    if webp:
        return memory_of_parts(layout.number)
    raw = layout.number * layout.bits / 8
    whole = layout.number * layout.array_bytes
    return 3 * raw + (whole if layout.planes or 8 * layout.array_bytes != layout.bits else 0)


def plane_files(content: bytes, directory: Directory, layout: SampleLayout) -> Iterator[bytes]:
    """Yield a file whose pixels are the bytes of the rows; one for each plane."""
    needed = needed_entries(directory)
    shared = {tag: needed[tag] for tag in OF_ROWS & needed.keys()}
    shared[WIDTH] = number_entry(directory, layout.row_bytes)
    for tag, value in ((BITS, 8), (PHOTOMETRIC, 1), (SAMPLES, 1), (PLANES, 1)):
        shared[tag] = number_entry(directory, value)
    if layout.tile_width:
        across = layout.tile_width * layout.stored_width // layout.width
        shared[TILE_WIDTH] = number_entry(directory, across * layout.bits // 8)
    planes = layout.number if layout.planes else 1
    for plane in range(planes):
        lists = {
            tag: part_of(
                directory, shared[tag], plane * (count := shared[tag].count // planes), count
            )
            for tag in LISTS & shared.keys()
        }
        yield with_directory(content, directory, shared | lists)


# ---------------------------------------------------------------- what the directory says


def part_count(directory: Directory, width: int, height: int) -> int:
    """Return the number of strips or tiles: that of the list, or that of the size if greater."""
    tile_width = directory.number(TILE_WIDTH) or width
    rows = directory.number(TILE_HEIGHT) or directory.number(ROWS_PER_STRIP) or height
    by_size = -(-width // tile_width) * -(-height // min(rows, height))
    return max(by_size, *(directory.entries[tag].count for tag in listed(directory)), 1)


def listed(directory: Directory) -> set[int]:
    return LISTS & directory.entries.keys()


def memory_of(directory: Directory) -> float:
    """Return the bytes for each pixel: in Pillow, and in a strip that may be the whole image."""
    samples, bits = max(1, directory.number(SAMPLES, 1)), directory.number(BITS, 1)
    colours = directory.number(PHOTOMETRIC)
    pillow = 4 if samples > 1 or bits > 16 or colours in {RGB, CMYK, YCBCR, LAB} else 2
    strip = 4 if colours == YCBCR else samples * -(-bits // 8)
    return pillow + strip


def orientation_by(directory: Directory) -> int:
    return directory.orientation or xmp_orientation(directory.value(XMP, MAX_METADATA))


def needed_entries(directory: Directory) -> dict[int, Entry]:
    return {tag: entry for tag, entry in directory.entries.items() if is_needed(tag, entry)}


def is_needed(tag: int, entry: Entry) -> bool:
    """Return whether pixels need an entry; one of a type that it cannot have is dropped."""
    return tag in NEEDED and (entry.kind in INTEGERS or entry.kind in {UNDEFINED, RATIONAL})
