"""Image files for tests: in all formats, with odd metadata, damaged, and expensive to decode."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO", "JPEG2000")
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")
WITH_EXIF = {"JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"}
ORIENTATION = 0x0112
QUICK = {"AVIF": {"speed": 10}, "WEBP": {"method": 0}}  # for the encoder
EXIF_HEADER = b"Exif\0\0"
ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 2, 3, 4, 5, 10
Entry = tuple[int, int, int, bytes]


def picture(width: int = 90, height: int = 60) -> Image.Image:
    """Return a picture whose corners all differ, always the same one."""
    noise = np.random.default_rng(1).normal(128, 30, (height, width)).clip(0, 255)
    image = Image.fromarray(noise.astype(np.uint8)).convert("RGB")
    image.paste((200, 10, 10), (0, 0, width // 3, height // 3))
    image.paste((10, 200, 10), (2 * width // 3, 2 * height // 3, width, height))
    return image


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **{**QUICK.get(format_, {}), **options})
    return buffer.getvalue()


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an RGB image in a mode of Pillow; one with transparency is partly transparent."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    if "A" in mode and mode != "LAB":
        image = image.convert("RGBA")
        image.putalpha(image.convert("L").rotate(10))
        return image if mode == "PA" else image.convert(mode)
    return image.convert(mode)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def variants(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield a file of every mode, format and orientation that Pillow can write, with its name."""
    for mode in MODES:
        for format_ in FORMATS:
            for orientation in range(1, 9) if format_ in WITH_EXIF else (1,):
                options = {"exif": oriented(orientation)} if format_ in WITH_EXIF else {}
                try:
                    yield (
                        f"{mode} {format_} {orientation}",
                        encoded(in_mode(image, mode), format_, **options),
                    )
                except (OSError, ValueError, KeyError):  # the format does not have the mode
                    break


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield damaged files: changed, cut out and repeated bytes in files of all formats."""
    rng = random.Random(seed)
    whole = [encoded(picture(), format_) for format_ in FORMATS]
    whole += [encoded(picture(), "JPEG", progressive=True), encoded(picture(), "PNG", bits=4)]
    whole += [encoded(picture(), "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg")]
    for _ in range(count):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.choice((1, 1, 2, 8))):
            mutate(content, rng)
        yield bytes(content)


def mutate(content: bytearray, rng: random.Random) -> None:
    # Headers decide more than pixels do.
    at = rng.randrange(len(content) if rng.random() < 0.5 else min(len(content), 200))
    length = rng.choice((1, 2, 4, rng.randrange(1, 300)))
    how = rng.randrange(4)
    if how == 0:
        content[at : at + length] = rng.randbytes(length)
    elif how == 1:
        del content[at : at + length]
    elif how == 2:
        content[at:at] = content[at : at + length] * rng.choice((1, 50))
    else:
        content[at : at + length] = bytes((rng.choice((0, 0x7F, 0x80, 0xFF)),)) * length
    if not content:
        content += b"\xff\xd8\xff"


# ---------------------------------------------------------------- parts of files


def directory(entries: list[Entry], at: int = 8, *, following: int = 0) -> bytes:
    """Return a TIFF directory at an offset; an entry is (tag, type, count, value)."""
    outside = at + 2 + 12 * len(entries) + 4
    packed, values = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        field = value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack("<I", outside + len(values))
            values += value + b"\0" * (len(value) % 2)
        packed += struct.pack("<HHI", tag, kind, count) + field
    return packed + struct.pack("<I", following) + values


def exif_block(*entries: Entry) -> bytes:
    return b"II*\0" + struct.pack("<I", 8) + directory(list(entries))


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """Return a JPEG with a segment before all others."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    return with_segment(jpeg, 0xE1, EXIF_HEADER + block)


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG, with the right checksum or another one."""
    right = zlib.crc32(kind + data)
    checksum = right if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def short(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def long(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def tiff_tags(width: int, height: int, *, bits: int = 8, compression: int = 1) -> list[Entry]:
    """Return the entries of a grey TIFF, without those of its strips."""
    return [
        (256, LONG, 1, long(width)),
        (257, LONG, 1, long(height)),
        (258, SHORT, 1, short(bits)),
        (259, SHORT, 1, short(compression)),
        (262, SHORT, 1, short(1)),
        (277, SHORT, 1, short(1)),
    ]


def tiff_of(tags: list[Entry], pixels: bytes, rows: int) -> bytes:
    """Return a TIFF of one strip."""
    strip: list[Entry] = [
        (273, LONG, 1, long(8)),
        (278, LONG, 1, long(rows)),
        (279, LONG, 1, long(len(pixels))),
    ]
    body = pixels + b"\0" * (len(pixels) % 2)
    return b"II*\0" + long(8 + len(body)) + body + directory(tags + strip, 8 + len(body))


# ---------------------------------------------------------------- expensive files


def zeros(count: int) -> bytes:
    """Return compressed zero bytes. Whole MiB of them are compressed once, and repeated."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)  # without a header and a checksum
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count & 0xFFFFF)) + packer.flush()
    checksum = struct.pack(">HH", count % 65521, 1)  # Adler-32
    return b"\x78\xda" + block * (count >> 20) + rest + checksum


def blank_png(width: int, height: int, bits: int, colour: int) -> bytes:
    """Return a PNG of zeros of any size."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = 1 + (width * bits * channels + 7) // 8
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zeros(row * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def with_screen(gif: bytes, width: int, height: int) -> bytes:
    return gif[:6] + struct.pack("<2H", width, height) + gif[10:]


def with_scans(jpeg: bytes, count: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    at, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    tables = jpeg.rindex(b"\xff\xc4", 0, at)
    return jpeg[:end] + jpeg[tables:end] * count + jpeg[end:]


def strips_tiff(count: int) -> bytes:
    tags = tiff_tags(1, count, compression=5)
    tags += [(273, LONG, count, b""), (278, LONG, 1, long(1)), (279, LONG, count, b"")]
    fields = [(tag, kind, n, value or long(200)) for tag, kind, n, value in tags]
    return (b"II*\0" + long(8) + directory(fields)).ljust(200 + 4 * count, b"\0")


def many_samples_tiff(side: int, number: int) -> bytes:
    tags = [entry for entry in tiff_tags(side, side, compression=8) if entry[0] not in {258, 277}]
    tags += [(258, SHORT, 1, short(16)), (277, SHORT, 1, short(number))]
    return tiff_of(tags, zeros(1 << 20), side)


def many_directories_dng(count: int) -> bytes:
    """Return a DNG whose directories all point to all others."""
    jpeg = encoded(picture(), "JPEG")
    offsets = long(*(1 << 16 for _ in range(count)))
    entries: list[Entry] = [
        (50706, 1, 4, b"\1\4\0\0"),
        (513, LONG, 1, long(8)),
        (514, LONG, 1, long(len(jpeg))),
        (330, LONG, count, offsets),
    ]
    body = b"II*\0" + long(8 + len(jpeg)) + jpeg
    return body + directory(entries, len(body), following=len(body))


def many_tags_tiff(count: int) -> bytes:
    """Return a TIFF whose unknown tags libtiff reports one by one."""
    tags = tiff_tags(10, 10) + [(1000 + number, 0, 1, long(1)) for number in range(count)]
    return tiff_of(tags, bytes(100), 10)


def long_text_png() -> bytes:
    text = b"key\0\0" + zlib.compress(bytes(200 << 20), 9)
    return with_chunks(encoded(picture(), "PNG"), chunk(b"zTXt", text), chunk(b"iCCP", text))


def runs_bmp(runs: bytes, side: int) -> bytes:
    """Return a BMP of 8-bit runs."""
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs), 2835, 2835, 256, 0)
    palette = bytes(value for colour in range(256) for value in (colour, 0, 0, 0))
    offset = 14 + len(info) + len(palette)
    head = struct.pack("<IHHI", offset + len(runs), 0, 0, offset)
    return b"BM" + head + info + palette + runs


def plain(format_: str, **options: object) -> bytes:
    return encoded(picture(), format_, **options)


SIDE = 7000  # 49 megapixels
# Files that took seconds, or hundreds of megabytes, or were refused for what is not pixels.
BOMBS: dict[str, Callable[[], bytes]] = {
    "png 7000 rgba": lambda: blank_png(SIDE, SIDE, 8, 6),
    "png 7000 grey of 16 bits": lambda: blank_png(SIDE, SIDE, 16, 0),
    "png 7000 palette": lambda: blank_png(SIDE, SIDE, 1, 0),
    "png in one row": lambda: blank_png(50_000_000, 1, 8, 6),
    "png in one column": lambda: blank_png(1, 50_000_000, 1, 0),
    "png of 400 megapixels": lambda: blank_png(20_000, 20_000, 1, 0),
    "png with long text": long_text_png,
    "png with many chunks": lambda: with_chunks(plain("PNG"), chunk(b"abCd", b"") * 500_000),
    "gif with a large screen": lambda: with_screen(plain("GIF"), SIDE, SIDE),
    "gif with a huge screen": lambda: with_screen(plain("GIF"), 65_535, 65_535),
    "gif with comments": lambda: plain("GIF")[:781] + b"!\xfe" + b"\1a" * 2_000_000 + b"\0",
    "jpeg with scans": lambda: with_scans(
        encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True), 20_000
    ),
    "jpeg with segments": lambda: plain("JPEG")[:2] + b"\xff\xe5\0\2" * 2_000_000,
    "jpeg of 4 gigapixels": lambda: plain("JPEG").replace(
        short_big(60) + short_big(90), short_big(65_500) * 2, 1
    ),
    "tiff with strips": lambda: strips_tiff(1_000_000),
    "tiff with unknown tags": lambda: many_tags_tiff(4000),
    "tiff of floats": lambda: tiff_of(
        [*tiff_tags(SIDE, SIDE, bits=32, compression=8), (339, SHORT, 1, short(3))],
        zeros(4 * SIDE * SIDE),
        SIDE,
    ),
    "tiff of 64 samples of 16 bits": lambda: many_samples_tiff(SIDE, 64),
    "tiff of 12 bits": lambda: tiff_of(
        tiff_tags(SIDE, SIDE, bits=12, compression=8), zeros(SIDE * SIDE * 3 // 2), SIDE
    ),
    "jpeg 2000 7000": lambda: encoded(Image.new("RGB", (SIDE, SIDE)), "JPEG2000"),
    "jpeg 2000 of tiny tiles": lambda: encoded(
        Image.new("L", (1000, 1000)), "JPEG2000", tile_size=(4, 4)
    ),
    "dng with many directories": lambda: many_directories_dng(5000),
    "bmp with rows of one run": lambda: runs_bmp(b"\1\0\0\0" * 7000 + b"\0\1", SIDE),
    "bmp with runs": lambda: runs_bmp(b"\1\0" * 9_000_000, SIDE),
    "webp 7000": lambda: encoded(Image.new("RGB", (SIDE, SIDE)), "WEBP", lossless=True),
    "avif 7000": lambda: encoded(Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4)), "AVIF", quality=1),
}


def short_big(value: int) -> bytes:
    return struct.pack(">H", value)
