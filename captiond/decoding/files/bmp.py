"""BMP files (Windows bitmaps, header versions 1 to 5, and those of OS/2)."""

import struct
from functools import partial

from captiond.decoding.bitfields import layout_of_fields, memory_of_fields, rows_of_fields
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage, ImageTypeRefused

RUN_LENGTHS = {1, 2}  # kinds of compression: runs of 8-bit and of 4-bit pixels
BIT_FIELDS, ALPHA_BIT_FIELDS = 3, 6
# Of Windows CE, and with colours beyond white. For printers: a JPEG or a PNG within a BMP.
OTHER_BITS, OTHER_COMPRESSIONS = {2, 64}, {4, 5}
COMMAND_SECONDS = 3e-7  # they are read in Python; a command has at least two bytes
OLD_HEADER, SHORT_HEADER, USUAL_HEADER, ALPHA_HEADER = 12, 16, 40, 56
MASKS_AT = 14 + USUAL_HEADER
# The masks of red, green, blue and opacity that Pillow reads, by the bits of a pixel.
KNOWN_MASKS = {
    32: {
        (0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF), (0, 0, 0, 0),
    },
    16: {(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)},
}  # fmt: skip


def plain_bmp(content: bytes) -> PlainFile:
    """Return a BMP without its resolution.

    Raises:
        CorruptImage: it has no header.
        ImageTypeRefused: it is of a kind that Pillow does not read.
    """
    content = with_usual_header(content)
    if len(content) < 34:
        raise CorruptImage("the image has no header")
    if header_bytes(content) == OLD_HEADER:
        width, height, _, bits = struct.unpack("<4H", content[18:26])
        check_kind(bits, 0)
        return PlainFile(content, width, height, memory_of(bits))
    width, height, _, bits, compression = struct.unpack("<iiHHI", content[18:34])
    check_kind(bits, compression)
    size = abs(width), abs(height)
    masks = masks_of(content, compression)
    by_pillow = compression == BIT_FIELDS and masks in KNOWN_MASKS.get(bits, set())
    if masks and bits in KNOWN_MASKS and not by_pillow:
        return with_fields(content, size, bits, masks, upward=height > 0)
    runs = compression in RUN_LENGTHS
    commands = min(len(content) // 2, size[0] * size[1] + size[1])
    return PlainFile(
        content=content[:38] + bytes(8) + colour_count(content, bits) + content[50:],
        width=size[0],
        height=size[1],
        pixel_bytes=memory_of(bits) + (3 if runs else 0),
        parts=f"{commands} runs of pixels",
        parts_seconds=commands * COMMAND_SECONDS if runs else 0.0,
        blank_alpha=True,
    )


def check_kind(bits: int, compression: int) -> None:
    """Refuse a file that Pillow would call damaged, because it reads no files of its kind."""
    if bits in OTHER_BITS or compression in OTHER_COMPRESSIONS:
        kind = f"of {bits} bits a pixel" if bits in OTHER_BITS else "in an unusual compression"
        raise ImageTypeRefused(
            f"this is a BMP image {kind}, which captiond does not read; convert it to PNG"
        )


def colour_count(content: bytes, bits: int) -> bytes:
    """Return how many colours the palette has, as the file says it. No pixel can have more."""
    count = int.from_bytes(content[46:50], "little")
    return min(count, 1 << min(bits, 31)).to_bytes(4, "little")


def header_bytes(content: bytes) -> int:
    return int.from_bytes(content[14:18], "little")


def with_usual_header(content: bytes) -> bytes:
    """Return a file with the header that Pillow reads: OS/2 may leave out most of it."""
    if header_bytes(content) != SHORT_HEADER:
        return content
    added = USUAL_HEADER - SHORT_HEADER
    offset = int.from_bytes(content[10:14], "little") + added
    sizes = struct.pack("<II", offset, USUAL_HEADER)
    return content[:10] + sizes + content[18:30] + bytes(added) + content[30:]


def masks_of(content: bytes, compression: int) -> tuple[int, ...]:
    """Return the masks of red, green, blue and opacity; none if the pixels have no masks."""
    if compression not in {BIT_FIELDS, ALPHA_BIT_FIELDS} or len(content) < MASKS_AT + 16:
        return ()
    masks = struct.unpack("<4I", content[MASKS_AT : MASKS_AT + 16])
    has_opacity = header_bytes(content) >= ALPHA_HEADER or compression == ALPHA_BIT_FIELDS
    return masks if has_opacity else (*masks[:3], 0)


def with_fields(
    content: bytes, size: tuple[int, int], bits: int, masks: tuple[int, ...], *, upward: bool
) -> PlainFile:
    """Return a file whose pixels captiond takes apart itself."""
    used = masks if masks[3] else masks[:3]
    pixels = content[int.from_bytes(content[10:14], "little") :]
    return PlainFile(
        content=b"",
        width=size[0],
        height=size[1],
        pixel_bytes=memory_of_fields(used),
        samples=layout_of_fields(*size, used),
        planes=partial(rows_of_fields, pixels, size, bits, used, upward=upward),
        format="PPM",
    )


def memory_of(bits: int) -> float:
    return 1.0 if bits <= 8 else 4.0
