"""Generated AVIF, HEIC, JPEG 2000 and JPEG XL files, raw files, and kinds that are refused."""

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from captiond.decoding.files.iso_boxes import boxes
from tests.pictures.gain_maps import JOINED, gain_map, jpegs_with_gain_maps, with_gain_map
from tests.pictures.generated import Generated, by_program, encoded, exif, turned
from tests.pictures.generated_common import (
    ALPHA,
    GREY,
    GREY_ALPHA,
    TRUECOLOUR,
    png,
    rows_of,
)
from tests.pictures.sample import SPACES, grey_profile, in_space, picture, rgb_profile, with_alpha
from tests.pictures.viewer import MAGICK, VIPS

# Turns of AVIF files (`irot`, `imir`): the orientation of EXIF that each means.
TURNS = {
    3: ("--irot", "2"), 6: ("--irot", "3"), 8: ("--irot", "1"),
    2: ("--imir", "1"), 4: ("--imir", "0"),
}  # fmt: skip
# Those of HEIC files: rotations against the clock by quarters, then mirrors (0: left to right).
PROPERTIES = {
    2: ((b"imir", 1),), 3: ((b"irot", 2),), 4: ((b"imir", 0),), 5: ((b"irot", 1), (b"imir", 0)),
    6: ((b"irot", 3),), 7: ((b"irot", 1), (b"imir", 1)), 8: ((b"irot", 1),),
}  # fmt: skip
PLAIN = "1/13/6"  # BT.709, sRGB, BT.601: what viewers assume


def generated_modern() -> Iterator[Generated]:
    yield from avifs()
    yield from heics()
    yield from gain_maps()
    yield from jp2s()
    yield from jxls()


def sixteen_bits() -> bytes:
    return png(rows_of(picture(), 16), 16, TRUECOLOUR)


# ---------------------------------------------------------------- AVIF and HEIC


def avif(source: bytes, *options: str) -> bytes:
    return by_program(
        source,
        ".avif",
        "avifenc",
        "-s",
        "8",
        "--min",
        "8",
        "--max",
        "18",
        *options,
        "{in}",
        "{out}",
    )


def avifs() -> Iterator[Generated]:
    plain = encoded(picture(), "PNG")
    for depth in ("8", "10", "12"):
        for chroma in ("444", "422", "420", "400"):
            content = avif(sixteen_bits(), "-d", depth, "-y", chroma, "--cicp", PLAIN)
            yield Generated("AVIF", f"{depth} {chroma}.avif", content)
        clear = encoded(with_alpha(), "PNG")  # which ImageMagick 6 does not see in AVIF and HEIC
        content = avif(clear, "-d", depth, "--cicp", PLAIN)
        yield Generated("AVIF", f"{depth} alpha.avif", content, twin=clear)
        content = avif(plain, "-d", depth, "-r", "limited", "--cicp", PLAIN)
        yield Generated("AVIF", f"{depth} limited.avif", content)
    for orientation, options in TURNS.items():
        stored = encoded(turned(picture(), orientation), "PNG")
        content = avif(stored, "-d", "8", "--cicp", PLAIN, *options)
        yield Generated("AVIF orientation", f"{orientation}.avif", content)
    for orientation in range(1, 9):
        image = turned(picture(), orientation)
        content = encoded(image, "AVIF", exif=exif(orientation), quality=90)
        twin = encoded(picture(), "AVIF", quality=90)
        yield Generated("AVIF orientation", f"EXIF {orientation}.avif", content, twin=twin)
    for space in SPACES:
        profile = rgb_profile(space)
        image = in_space(profile, picture())
        content = encoded(image, "AVIF", icc_profile=profile, quality=98, subsampling="4:4:4")
        twin = encoded(image, "PNG", icc_profile=profile)  # ImageMagick 6 ignores that of an AVIF
        yield Generated("AVIF profile", f"{space}.avif", content, twin=twin, profiled=True)
    for name, space, numbers in (("P3", "p3", "12/13/6"), ("BT.2020", "bt2020", "9/1/9")):
        stored = encoded(in_space(rgb_profile(space), picture()), "PNG")
        content = avif(stored, "-d", "10", "--cicp", numbers)
        yield Generated("AVIF coding", f"{name}.avif", content, twin=plain)
    for name, numbers in (("PQ", "9/16/9"), ("HLG", "9/18/9")):
        content = avif(hdr_png(name), "-d", "10", "--cicp", numbers)
        yield Generated("HDR", f"{name}.avif", content, twin=plain, hdr=True)
    frames = encoded(
        picture(), "AVIF", save_all=True, append_images=[picture().rotate(180)], quality=90
    )
    yield Generated("AVIF", "animation.avif", frames, twin=encoded(picture(), "AVIF", quality=90))


def hdr_png(transfer: str) -> bytes:
    """Return the picture as HDR of BT.2020, whose white is at 203 cd/m2, with 16 bits."""
    values = np.asarray(picture()) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    light = light @ np.array(matrix).T
    if transfer == "PQ":
        power = (light * 203 / 10_000).clip(0) ** (2610 / 16384)
        top = 3424 / 4096 + 2413 / 128 * power
        coded = (top / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        display = light * 203 / 1000
        luma = (display @ np.array((0.2627, 0.6780, 0.0593)))[..., None].clip(1e-9)
        scene = display * luma ** (1 / 1.2 - 1)
        bright = 0.17883277 * np.log((12 * scene - 0.28466892).clip(1e-9)) + 0.55991073
        coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene.clip(0)), bright)
    raw = np.rint(coded.clip(0, 1) * 65_535).astype(">u2")
    rows = raw.view(np.uint8).reshape(len(raw), -1)
    return png(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 16, TRUECOLOUR)


def heic(source: bytes, *options: str) -> bytes:
    return by_program(source, ".heic", "heif-enc", "-q", "90", *options, "-o", "{out}", "{in}")


def with_property(content: bytes, kind: bytes, body: bytes) -> bytes:
    """Return a HEIC file whose first item has one more property."""
    box = struct.pack(">I4s", 8 + len(body), kind) + body
    at = content.index(b"ipco") - 4
    end = at + int.from_bytes(content[at : at + 4], "big")
    index = len(list(boxes(content, at + 8, end))) + 1
    item = content.index(b"ipma", end) + 12  # of one item: its number, a count, the properties
    count = content[item + 2]
    changed = bytearray(content)
    changed[item + 2] = count + 1
    changed[item + 3 + count : item + 3 + count] = bytes((0x80 | index,))
    changed[end:end] = box
    for name, more in (
        (b"ipco", len(box)),
        (b"ipma", 1),
        (b"iprp", len(box) + 1),
        (b"meta", len(box) + 1),
    ):
        place = changed.index(name) - 4
        size = int.from_bytes(changed[place : place + 4], "big") + more
        changed[place : place + 4] = struct.pack(">I", size)
    return moved_items(bytes(changed), len(box) + 1)


def moved_items(content: bytes, by: int) -> bytes:
    """Return a HEIC file whose one item stands further behind (`iloc` of version 0 or 1)."""
    begin = content.index(b"iloc") + 4
    end = begin - 8 + int.from_bytes(content[begin - 8 : begin - 4], "big")
    mdat = content.index(b"mdat")
    changed = bytearray(content)
    for at in range(begin + 8, end - 3):
        offset = int.from_bytes(content[at : at + 4], "big")
        if offset == mdat + 4 - by:
            changed[at : at + 4] = struct.pack(">I", offset + by)
    return bytes(changed)


def heics() -> Iterator[Generated]:
    plain = encoded(picture(), "PNG")
    for chroma in ("420", "422", "444"):
        content = heic(plain, "-p", f"chroma={chroma}")
        yield Generated("HEIC", f"8 {chroma}.heic", content)
        content = heic(sixteen_bits(), "-b", "10", "-p", f"chroma={chroma}")
        yield Generated("HEIC", f"10 {chroma}.heic", content)
    clear = encoded(with_alpha(), "PNG")
    yield Generated("HEIC", "alpha.heic", heic(clear), twin=clear)
    yield Generated("HEIC", "grey.heic", heic(encoded(picture().convert("L"), "PNG")))
    for orientation in range(1, 9):
        content = heic(encoded(turned(picture(), orientation), "PNG"))
        for kind, value in PROPERTIES.get(orientation, ()):
            content = with_property(content, kind, bytes((value,)))
        yield Generated("HEIC orientation", f"{orientation}.heic", content, twin=heic(plain))
    for space in ("p3", "adobe", "prophoto"):
        profile = rgb_profile(space)
        stored = encoded(in_space(profile, picture()), "PNG", icc_profile=profile)
        yield Generated("HEIC profile", f"{space}.heic", heic(stored), twin=stored, profiled=True)
    for name, transfer in (("PQ", 16), ("HLG", 18)):
        content = heic(hdr_png(name), "-b", "10")
        numbers = b"nclx" + struct.pack(">3HB", 9, transfer, 6, 0x80)
        content = with_property(content, b"colr", numbers)
        yield Generated("HDR", f"{name}.heic", content, twin=plain, hdr=True)


def gain_maps() -> Iterator[Generated]:
    for name, (content, plain) in jpegs_with_gain_maps().items():
        yield Generated("gain map", f"{name}.jpg", content, twin=plain)
    plain = encoded(picture(), "PNG")
    for side in (4, 1, 0.5):
        size = round(picture().width / side), round(picture().height / side)
        gains = encoded(gain_map(*size), "PNG")
        for joined in JOINED:
            content = with_gain_map(heic(plain), heic(gains), joined)
            yield Generated("gain map", f"{joined} {side}.heic", content, twin=plain)
            shown = avif(plain, "-d", "8", "--cicp", PLAIN)
            content = with_gain_map(shown, avif(gains, "-d", "8", "--cicp", PLAIN), joined)
            yield Generated("gain map", f"{joined} {side}.avif", content, twin=shown)


# ---------------------------------------------------------------- JPEG 2000 and JPEG XL


def jp2s() -> Iterator[Generated]:
    images = {
        "L": picture().convert("L"),
        "RGB": picture(),
        "RGBA": with_alpha(),
        "LA": with_alpha().convert("LA"),
    }
    for mode, image in images.items():
        yield Generated("JPEG 2000", f"{mode}.jp2", encoded(image, "JPEG2000"))
        lossy = encoded(
            image, "JPEG2000", quality_mode="dB", quality_layers=[42], irreversible=True
        )
        yield Generated("JPEG 2000", f"{mode} lossy.jp2", lossy)
    for mode in ("L", "RGB"):
        content = encoded(images[mode], "JPEG2000", no_jp2=True)
        yield Generated("JPEG 2000", f"{mode}.j2k", content)
        content = encoded(images[mode], "JPEG2000", tile_size=(64, 64))
        yield Generated("JPEG 2000", f"{mode} tiles.jp2", content)
    deep = Image.fromarray(np.asarray(images["L"]).astype(np.uint16) * 257)
    yield Generated("JPEG 2000", "L 16.jp2", encoded(deep, "JPEG2000"))
    yield from deep_jp2s()
    for space in ("adobe", "prophoto", "p3"):
        profile = rgb_profile(space)
        stored = encoded(in_space(profile, picture()), "PNG", icc_profile=profile)
        content = by_program(stored, ".jp2", "vips", "jp2ksave", "{in}", "{out}", "--lossless")
        content = with_jp2_profile(content, profile)
        yield Generated("JPEG 2000", f"{space}.jp2", content, profiled=True, twin=stored)


def deep_jp2s() -> Iterator[Generated]:
    """Yield files of other depths than 8 bits, of which ImageMagick reads the reversible ones."""
    sources = {
        "L": (picture().convert("L"), GREY),
        "RGB": (picture(), TRUECOLOUR),
        "RGBA": (with_alpha(), ALPHA),
        "LA": (with_alpha().convert("LA"), GREY_ALPHA),
    }
    for mode, (image, colours) in sources.items():
        source = png(rows_of(image, 16), 16, colours)
        for bits in (2, 4, 7, 9, 10, 12, 14, 16):
            command = (MAGICK, "{in}", "-depth", str(bits), "{out}")
            content = by_program(source, ".jp2", *command)
            yield Generated("JPEG 2000 depth", f"{mode} {bits}.jp2", content)
            yield Generated("JPEG 2000 depth", f"{mode} {bits} signed.jp2", with_signs(content))
        lossy = by_program(source, ".jp2", VIPS, "jp2ksave", "{in}", "{out}", "--Q", "95")
        yield Generated("JPEG 2000 depth", f"{mode} 16 lossy.jp2", lossy)
    halved = ("--subsample-mode", "on", "--Q", "90")
    content = by_program(sixteen_bits(), ".jp2", VIPS, "jp2ksave", "{in}", "{out}", *halved)
    yield Generated("JPEG 2000 depth", "subsampled.jp2", content, refused="fewer pixels")


def with_signs(content: bytes) -> bytes:
    """Return a JPEG 2000 file whose components have a sign: the same values, moved by a half."""
    changed, at = bytearray(content), content.index(b"\xff\x4f\xff\x51") + 40
    for number in range(content[at + 1]):
        changed[at + 2 + 3 * number] |= 0x80
    return bytes(changed)


def with_jp2_profile(content: bytes, profile: bytes) -> bytes:
    """Return a JP2 file whose `colr` box has an ICC profile."""
    at = content.index(b"colr") - 4
    old = int.from_bytes(content[at : at + 4], "big")
    new = struct.pack(">I4s3B", 11 + len(profile), b"colr", 2, 0, 0) + profile
    head = content.index(b"jp2h") - 4
    size = int.from_bytes(content[head : head + 4], "big") - old + len(new)
    return (
        content[:head]
        + struct.pack(">I", size)
        + content[head + 4 : at]
        + new
        + content[at + old :]
    )


def jxl(source: bytes, *options: str, suffix: str = ".png") -> bytes:
    return by_program(source, ".jxl", "cjxl", "{in}", "{out}", *options, source_suffix=suffix)


def jxls() -> Iterator[Generated]:
    plain = encoded(picture(), "PNG")
    images = {
        "L": picture().convert("L"),
        "RGB": picture(),
        "RGBA": with_alpha(),
        "LA": with_alpha().convert("LA"),
    }
    for mode, image in images.items():
        source = encoded(image, "PNG")
        for distance in ("0", "0.5"):
            for container in ("0", "1"):
                content = jxl(source, "-d", distance, f"--container={container}")
                name = f"{mode} {distance} {container}.jxl"
                yield Generated("JPEG XL", name, content, viewer="vips")
    yield Generated("JPEG XL", "16.jxl", jxl(sixteen_bits(), "-d", "0"), viewer="vips")
    grey = png(rows_of(picture().convert("L"), 16), 16, 0)
    yield Generated("JPEG XL", "grey 16.jxl", jxl(grey, "-d", "0"), viewer="vips")
    jpeg = encoded(picture(), "JPEG", quality=92)
    yield Generated("JPEG XL", "from JPEG.jxl", jxl(jpeg, suffix=".jpg"), twin=jpeg)
    for orientation in range(1, 9):
        stored = encoded(turned(picture(), orientation), "JPEG", quality=92, exif=exif(orientation))
        content = jxl(stored, suffix=".jpg")
        yield Generated("JPEG XL orientation", f"{orientation}.jxl", content, twin=stored)
    for space in SPACES:
        profile = rgb_profile(space)
        stored = encoded(in_space(profile, picture()), "PNG", icc_profile=profile)
        for distance in ("0", "0.5"):
            content = jxl(stored, "-d", distance)
            name = f"{space} {distance}.jxl"
            yield Generated("JPEG XL profile", name, content, twin=stored, profiled=True)
    for name, space in (("PQ", "RGB_D65_202_Rel_PeQ"), ("HLG", "RGB_D65_202_Rel_HLG")):
        content = jxl(hdr_png(name), "-d", "0", "-x", f"color_space={space}")
        yield Generated("HDR", f"{name}.jxl", content, twin=plain, hdr=True)
    for gamma in (1.0, 1.8):
        values = 255 * (np.asarray(picture().convert("L")) / 255) ** (2.2 / gamma)
        image = Image.fromarray(np.rint(values).astype(np.uint8))
        stored = encoded(image, "PNG", icc_profile=grey_profile(gamma))
        content = jxl(stored, "-d", "0")
        yield Generated("JPEG XL profile", f"grey {gamma}.jxl", content, twin=stored, profiled=True)
