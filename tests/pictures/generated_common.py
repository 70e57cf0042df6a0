"""Generated JPEG, PNG, GIF, WebP and BMP files."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.imagefiles import chunk, with_chunks, with_segment
from tests.pictures.generated import Generated, encoded, exif, turned, xmp
from tests.pictures.sample import (
    SPACES,
    grey_profile,
    in_space,
    picture,
    rgb_profile,
    with_alpha,
)

XAP = b"http://ns.adobe.com/xap/1.0/\0"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG
GREY, TRUECOLOUR, PALETTE, GREY_ALPHA, ALPHA = 0, 2, 3, 4, 6


def generated_common() -> Iterator[Generated]:
    yield from jpegs()
    yield from pngs()
    yield from gifs()
    yield from webps()
    yield from bmps()
    yield from profiles()
    yield from png_colours()
    yield from orientations()


# ---------------------------------------------------------------- JPEG


def jpegs() -> Iterator[Generated]:
    for sampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        for progressive in (False, True):
            content = encoded(
                picture(), "JPEG", quality=92, subsampling=sampling, progressive=progressive
            )
            name = f"{sampling.replace(':', '')}{' progressive' * progressive}.jpg"
            yield Generated("JPEG", name, content)
    yield Generated("JPEG", "grey.jpg", encoded(picture().convert("L"), "JPEG", quality=92))
    plain = encoded(picture(), "JPEG", quality=92)
    yield Generated("JPEG", "restarts.jpg", encoded(picture(), "JPEG", restart_marker_blocks=4))
    yield Generated("JPEG", "RGB.jpg", encoded(picture(), "JPEG", quality=92, keep_rgb=True))
    yield Generated("JPEG", "no end.jpg", plain[:-2])
    yield Generated("JPEG", "trailing.jpg", plain + b"trailing text")
    yield Generated(
        "JPEG",
        "MPO.jpg",
        encoded(picture(), "MPO", save_all=True, append_images=[picture().rotate(90)]),
    )
    cmyk = encoded(picture().convert("CMYK"), "JPEG", quality=92)
    yield Generated("JPEG CMYK", "CMYK Adobe.jpg", cmyk)
    at = cmyk.index(b"\xff\xee")
    length = 2 + int.from_bytes(cmyk[at + 2 : at + 4], "big")
    bare = cmyk[:at] + cmyk[at + length :]
    yield Generated("JPEG CMYK", "CMYK no Adobe.jpg", bare)
    flag = cmyk.index(b"Adobe") + 11
    yield Generated("JPEG CMYK", "YCCK.jpg", as_ycck(cmyk, flag))


def as_ycck(cmyk: bytes, flag: int) -> bytes:
    """Return a JPEG whose samples C, M, Y are stored as Y, Cb, Cr, which the Adobe marker says."""
    inverted = Image.eval(picture().convert("CMYK"), lambda value: 255 - value)
    c, m, y, k = inverted.split()
    luma = Image.merge("RGB", (c, m, y)).convert("YCbCr").split()
    planes = [Image.eval(plane, lambda value: 255 - value) for plane in (*luma, k)]
    stored = encoded(Image.merge("CMYK", planes), "JPEG", quality=92)
    return stored[:flag] + b"\2" + stored[flag + 1 :]


# ---------------------------------------------------------------- PNG


def png(
    rows: bytes, bits: int, colour: int, *chunks: bytes, width: int = 0, height: int = 0
) -> bytes:
    """Return a PNG of rows that have their filters."""
    size = struct.pack(">II", width or picture().width, height or picture().height)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", size + bytes((bits, colour, 0, 0, 0))),
            *chunks,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def rows_of(image: Image.Image, bits: int) -> bytes:
    """Return unfiltered rows of an image, with samples of so many bits."""
    values = np.asarray(image, dtype=np.int64)
    values = values.reshape(len(values), -1)
    if bits == 16:
        raw = (values * 257).astype(">u2").view(np.uint8).reshape(len(values), -1)
    else:
        scaled = np.rint(values * ((1 << bits) - 1) / 255).astype(np.uint8)
        places = scaled[..., None] >> np.arange(bits - 1, -1, -1) & 1
        raw = np.packbits(places.reshape(len(values), -1).astype(np.uint8), axis=1)
    return np.pad(raw, ((0, 0), (1, 0))).tobytes()


def pngs() -> Iterator[Generated]:
    grey, rgb, both = picture().convert("L"), picture(), with_alpha()
    for bits in (1, 2, 4, 8, 16):
        yield Generated("PNG", f"grey {bits}.png", png(rows_of(grey, bits), bits, GREY))
        white = (1 << bits) - 1
        clear = chunk(b"tRNS", struct.pack(">H", white))
        content = png(rows_of(grey, bits), bits, GREY, clear)
        yield Generated("PNG tRNS", f"grey {bits} white.png", content)
        clear = chunk(b"tRNS", struct.pack(">H", 0))
        content = png(rows_of(grey, bits), bits, GREY, clear)
        yield Generated("PNG tRNS", f"grey {bits} black.png", content)
    for bits in (8, 16):
        most = 257 if bits == 16 else 1
        yield Generated("PNG", f"RGB {bits}.png", png(rows_of(rgb, bits), bits, TRUECOLOUR))
        for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255)), ("black", (0, 0, 0))):
            clear = chunk(b"tRNS", struct.pack(">3H", *(value * most for value in colour)))
            content = png(rows_of(rgb, bits), bits, TRUECOLOUR, clear)
            yield Generated("PNG tRNS", f"RGB {bits} {name}.png", content)
        content = png(rows_of(both.convert("LA"), bits), bits, GREY_ALPHA)
        yield Generated("PNG alpha", f"LA {bits}.png", content)
        yield Generated("PNG alpha", f"RGBA {bits}.png", png(rows_of(both, bits), bits, ALPHA))
    for bits in (1, 2, 4, 8):
        paletted = picture().quantize(1 << bits)
        content = encoded(paletted, "PNG", bits=bits)
        yield Generated("PNG palette", f"{bits}.png", content)
        if bits > 1:
            opacity = bytes((0, 90, *([255] * ((1 << bits) - 2))))
            content = encoded(paletted, "PNG", bits=bits, transparency=opacity)
            yield Generated("PNG palette", f"{bits} tRNS.png", content)
    frames = [picture().rotate(180), picture().rotate(90)]
    content = encoded(picture(), "PNG", save_all=True, append_images=frames)
    yield Generated("PNG", "APNG.png", content)
    whole = encoded(picture(), "PNG")
    yield Generated("PNG", "no end.png", whole[:-12], twin=whole)


# ---------------------------------------------------------------- GIF, WebP, BMP


def gifs() -> Iterator[Generated]:
    for colours in (2, 4, 16, 128, 256):
        for interlace in (0, 1):
            paletted = picture().quantize(colours)
            content = encoded(paletted, "GIF", interlace=interlace)
            yield Generated("GIF", f"{colours} {interlace}.gif", content)
        content = encoded(paletted, "GIF", transparency=1)
        yield Generated("GIF", f"{colours} transparent.gif", content)
    frames = [picture().rotate(180).quantize(64)]
    content = encoded(picture().quantize(64), "GIF", save_all=True, append_images=frames)
    yield Generated("GIF", "animation.gif", content)
    screen = picture().width + 60, picture().height + 40
    content = encoded(picture().quantize(64), "GIF", optimize=False)
    moved = content[:6] + struct.pack("<2H", *screen) + content[10:]
    at = moved.index(b",\0\0\0\0")
    moved = moved[: at + 1] + struct.pack("<2H", 30, 20) + moved[at + 5 :]
    if b"!\xf9" not in moved[:at]:
        moved = moved[:at] + b"!\xf9\4\1\0\0\xff\0" + moved[at:]
    yield Generated("GIF", "canvas.gif", moved)


def webps() -> Iterator[Generated]:
    for quality in (50, 95):
        yield Generated(
            "WebP", f"lossy {quality}.webp", encoded(picture(), "WEBP", quality=quality)
        )
        content = encoded(with_alpha(), "WEBP", quality=quality)
        yield Generated("WebP", f"lossy alpha {quality}.webp", content)
    yield Generated("WebP", "lossless.webp", encoded(picture(), "WEBP", lossless=True))
    yield Generated("WebP", "lossless alpha.webp", encoded(with_alpha(), "WEBP", lossless=True))
    frames = [picture().rotate(180)]
    content = encoded(picture(), "WEBP", save_all=True, append_images=frames, lossless=True)
    yield Generated("WebP", "animation.webp", content)


def bmps() -> Iterator[Generated]:
    for mode in ("1", "L", "P", "RGB"):
        yield Generated("BMP", f"{mode}.bmp", encoded(picture().convert(mode), "BMP"))
    rgba = np.asarray(with_alpha())
    for name, masks, bits in (
        ("565", (0xF800, 0x7E0, 0x1F, 0), 16),
        ("555", (0x7C00, 0x3E0, 0x1F, 0), 16),
        ("8888", (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 32),
        ("888X", (0xFF0000, 0xFF00, 0xFF, 0), 32),
    ):
        for clear in (False, True):
            pixels = rgba.copy()
            pixels[..., 3] = 0 if clear else 255
            twin = encoded(picture(), "PNG") if clear else b""  # as Windows shows it
            content = bmp(pixels, masks, bits)
            yield Generated("BMP", f"{name}{' clear' * clear}.bmp", content, twin=twin)


def bmp(pixels: np.ndarray, masks: tuple[int, ...], bits: int) -> bytes:
    """Return a BMP of version 5 with bit fields, from top to bottom."""
    height, width = pixels.shape[:2]
    value = np.zeros((height, width), np.uint32)
    for channel, mask in enumerate(masks):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            most = mask >> shift
            value |= (
                np.rint(pixels[..., channel].astype(float) * most / 255).astype(np.uint32) << shift
            ).astype(np.uint32)
    raw = value.astype("<u2" if bits == 16 else "<u4").tobytes()
    info = struct.pack("<IiiHHIIiiII", 124, width, -height, 1, bits, 3, len(raw), 0, 0, 0, 0)
    info = (info + struct.pack("<4I", *masks) + b"BGRs").ljust(124, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(raw), 0, 0, 138) + info + raw


# ---------------------------------------------------------------- profiles, orientations


def profiles() -> Iterator[Generated]:
    formats: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "PNG": {},
        "WEBP": {"lossless": True},
    }
    for space in SPACES:
        profile = rgb_profile(space)
        for format_, options in formats.items():
            content = encoded(in_space(profile, picture()), format_, icc_profile=profile, **options)
            yield Generated("profile", f"{space}.{format_.lower()}", content, profiled=True)
        content = encoded(picture(), "PNG", icc_profile=profile)
        yield Generated("profile", f"{space} values.png", content, profiled=True)
    for gamma in (1.0, 1.8, 2.2):
        for format_ in ("JPEG", "PNG"):
            values = 255 * (np.asarray(picture().convert("L")) / 255) ** (2.2 / gamma)
            grey = Image.fromarray(np.rint(values).astype(np.uint8))
            content = encoded(grey, format_, icc_profile=grey_profile(gamma))
            yield Generated("profile", f"grey {gamma}.{format_.lower()}", content, profiled=True)
    for broken in (b"junk", rgb_profile("adobe")[:300], grey_profile(1.0)):
        content = encoded(picture(), "PNG", icc_profile=broken)
        twin = encoded(picture(), "PNG")
        yield Generated("profile", f"broken {len(broken)}.png", content, twin=twin)


def png_colours() -> Iterator[Generated]:
    """Yield PNG files whose chunks say what their colours mean. ImageMagick 6 knows few of them."""
    plain = encoded(picture(), "PNG")
    swapped = icc_chunk(rgb_profile("swapped"))
    for space, (red, green, blue, white, exponent) in SPACES.items():
        stored = encoded(in_space(rgb_profile(space), picture()), "PNG")
        points = struct.pack(
            ">8I", *(round(100_000 * value) for value in (*white, *red, *green, *blue))
        )
        gamma = chunk(b"gAMA", struct.pack(">I", round(100_000 / exponent)))
        content = with_chunks(stored, gamma, chunk(b"cHRM", points))
        yield Generated("PNG colours", f"{space} by numbers.png", content, twin=plain)
        content = with_chunks(plain, chunk(b"sRGB", b"\0"), gamma, chunk(b"cHRM", points))
        yield Generated("PNG colours", f"{space} after sRGB.png", content, twin=plain)
        content = with_chunks(stored, icc_chunk(rgb_profile(space)), chunk(b"sRGB", b"\0"), gamma)
        yield Generated("PNG colours", f"{space} by a profile.png", content, twin=plain)
    for space, numbers in (("p3", (12, 13)), ("bt2020", (9, 1)), ("linear", (1, 8))):
        stored = encoded(in_space(rgb_profile(space), picture()), "PNG")
        content = with_chunks(stored, chunk(b"cICP", bytes((*numbers, 0, 1))), swapped)
        yield Generated("PNG colours", f"{space} before a profile.png", content, twin=plain)
    for gamma_ in (1.0, 1.8):
        grey = picture().convert("L")
        values = np.rint(255 * (np.asarray(grey) / 255) ** (2.2 / gamma_)).astype(np.uint8)
        content = with_chunks(
            encoded(Image.fromarray(values), "PNG"),
            chunk(b"gAMA", struct.pack(">I", round(100_000 / gamma_))),
        )
        yield Generated("PNG colours", f"grey {gamma_}.png", content, twin=encoded(grey, "PNG"))


def icc_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))


def orientations() -> Iterator[Generated]:
    for orientation in range(1, 9):
        stored = turned(picture(), orientation)
        for format_ in ("JPEG", "PNG", "WEBP"):
            name = f"{orientation}.{format_.lower()}"
            content = encoded(stored, format_, exif=exif(orientation), quality=95)
            twin = b"" if format_ == "JPEG" else encoded(picture(), format_, quality=95)
            yield Generated("orientation", name, content, twin=twin)
        twin = encoded(picture(), "JPEG", quality=95)
        content = with_segment(encoded(stored, "JPEG", quality=95), 0xE1, XAP + xmp(orientation))
        yield Generated("orientation by XMP", f"{orientation}.jpg", content, twin=twin)
        twin = encoded(picture(), "PNG")
        extra = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(orientation))
        content = with_chunks(encoded(stored, "PNG"), extra)
        yield Generated("orientation by XMP", f"{orientation}.png", content, twin=twin)
