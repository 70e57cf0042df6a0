"""Generated TIFF files."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.pictures.generated import Generated, by_program, encoded, turned
from tests.pictures.sample import grey_profile, in_space, picture, rgb_profile, with_alpha
from tests.pictures.tiff_writer import (
    BLACK_IS_ZERO,
    CMYK,
    FLOAT,
    LAB,
    PALETTE,
    RGB,
    SIGNED,
    WHITE_IS_ZERO,
    Layout,
    Values,
    scaled,
    tiff,
)
from tests.pictures.viewer import VIPS

UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
LAYOUTS: dict[str, dict[str, Any]] = {
    "big endian": {"order": ">"},
    "deflated": {"deflated": True},
    "predictor": {"deflated": True, "predictor": 2},
    "planes": {"planar": True},
    "deflated planes": {"planar": True, "deflated": True},
    "tiles": {"tiled": True},
    "deflated tiles with predictor": {"tiled": True, "deflated": True, "predictor": 2},
    "tiled planes": {"tiled": True, "planar": True},
    "reversed bits": {"reversed_bits": True},
}


ENDS = {"<": "little endian", ">": "big endian"}


def values_of(image: Image.Image) -> Values:
    values = np.asarray(image) / 255
    return values if values.ndim == 3 else values[..., None]


def generated_tiffs() -> Iterator[Generated]:
    yield from greys()
    yield from colours()
    yield from layouts()
    yield from others()
    yield from by_pillow()


def file(
    kind: str, name: str, values: Values, layout: Layout, twin: Values | None = None
) -> Generated:
    """Return a TIFF of values of 0…1; its twin has others, as plain grey of 8 bits."""
    content = tiff(scaled(values, layout), layout)
    plain = (
        b""
        if twin is None
        else encoded(Image.fromarray(np.rint(twin[..., 0] * 255).astype(np.uint8)), "PNG")
    )
    return Generated(kind, f"{name}.tif", content, profiled=bool(layout.profile), twin=plain)


def greys() -> Iterator[Generated]:
    grey = values_of(picture().convert("L"))
    for photometric, name in ((BLACK_IS_ZERO, "black is 0"), (WHITE_IS_ZERO, "white is 0")):
        inverted = photometric == WHITE_IS_ZERO  # ImageMagick 6 ignores that for most depths
        values, twin = (1 - grey, grey) if inverted else (grey, None)
        for bits in (1, 8, 10, 12, 14, 16, 32):
            for order in "<>":
                layout = Layout(photometric, bits, order=order)
                shown = twin if bits in {10, 12, 14, 16, 32} else None
                yield file("TIFF grey", f"{name} {bits} {ENDS[order]}", values, layout, shown)
        for bits in (2, 4):
            rounded = np.rint(grey * ((1 << bits) - 1)) / ((1 << bits) - 1)
            values = 1 - rounded if inverted else rounded
            yield file("TIFF grey", f"{name} {bits}", values, Layout(photometric, bits), rounded)
        values = 1 - grey if inverted else grey
        for bits in (16, 32, 64):
            for order in "<>":
                layout = Layout(photometric, bits, FLOAT, order)
                yield file("TIFF float", f"{name} {bits} {ENDS[order]}", values, layout, twin)
    for bits in (8, 16, 32):
        yield file("TIFF signed", f"{bits}", grey, Layout(BLACK_IS_ZERO, bits, SIGNED), grey)


def colours() -> Iterator[Generated]:
    rgb, rgba = values_of(picture()), values_of(with_alpha())
    premultiplied = np.concatenate((rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]), axis=2)
    grey_alpha = values_of(with_alpha().convert("LA"))
    for bits in (4, 8, 10, 12, 14, 16, 32):
        yield file("TIFF RGB", f"{bits}", rgb, Layout(RGB, bits))
    for bits in (8, 16, 32):
        for extra, name in ((ASSOCIATED, "associated"), (UNASSOCIATED, "unassociated")):
            values = premultiplied if extra == ASSOCIATED else rgba
            layout = Layout(RGB, bits, extra=(extra,))
            yield file("TIFF alpha", f"RGBA {name} {bits}", values, layout)
        layout = Layout(BLACK_IS_ZERO, bits, extra=(UNASSOCIATED,))
        yield file("TIFF alpha", f"LA {bits}", grey_alpha, layout)
        layout = Layout(RGB, bits, extra=(UNSPECIFIED,))
        yield file("TIFF alpha", f"RGBX {bits}", rgba, layout)
    for bits in (16, 32, 64):
        yield file("TIFF float", f"RGB {bits}", rgb, Layout(RGB, bits, FLOAT))
        layout = Layout(RGB, bits, FLOAT, deflated=True, predictor=3)
        yield file("TIFF float", f"RGB {bits} predictor", rgb, layout)
    layout = Layout(BLACK_IS_ZERO, 32, FLOAT, deflated=True, predictor=3)
    yield file("TIFF float", "grey 32 predictor", values_of(picture().convert("L")), layout)


def layouts() -> Iterator[Generated]:
    rgb, grey = values_of(picture()), values_of(picture().convert("L"))
    for name, options in LAYOUTS.items():
        for bits in (8, 16, 32):
            layout = replace(Layout(RGB, bits), **options)
            yield file("TIFF layout", f"RGB {bits} {name}", rgb, layout)
            if bits == 8 and layout.planar:
                continue
            layout = replace(layout, photometric=BLACK_IS_ZERO)
            yield file("TIFF layout", f"grey {bits} {name}", grey, layout)
    for name in ("big endian", "deflated", "planes", "tiles"):
        layout = replace(Layout(RGB, 12), **LAYOUTS[name])
        yield file("TIFF layout", f"RGB 12 {name}", rgb, layout)


def others() -> Iterator[Generated]:
    cmyk = values_of(picture().convert("CMYK"))
    for bits in (8, 16):
        yield file("TIFF CMYK", f"{bits}", cmyk, Layout(CMYK, bits))
        yield file("TIFF CMYK", f"{bits} planes", cmyk, Layout(CMYK, bits, planar=True))
    lab = lab_values()
    for bits in (8, 16):
        samples = scaled(lab, Layout(LAB, bits))
        middle = 1 << (bits - 1)
        samples[..., 1:] -= middle
        yield Generated("TIFF LAB", f"{bits}.tif", tiff(samples, Layout(LAB, bits)))
    for bits in (1, 2, 4, 8):
        paletted = picture().quantize(1 << bits)
        colours_ = np.array(paletted.getpalette()).reshape(-1, 3)
        map_ = np.zeros((1 << bits, 3), dtype=int)
        map_[: len(colours_)] = colours_[: 1 << bits]
        layout = Layout(PALETTE, bits, tags=((320, 3, tuple((map_.T * 257).ravel())),))
        indices = np.asarray(paletted).astype(np.int64)[..., None]
        yield Generated("TIFF palette", f"{bits}.tif", tiff(indices, layout))
    for orientation in range(1, 9):
        for bits in (8, 12):
            layout = Layout(RGB, bits, orientation=orientation)
            values = values_of(turned(picture(), orientation))
            yield file("TIFF orientation", f"{bits} {orientation}", values, layout)
    for space in ("srgb-like", "linear", "adobe", "p3", "prophoto", "rec2020", "swapped"):
        for bits in (8, 16):
            profile = rgb_profile(space)
            layout = Layout(RGB, bits, profile=profile)
            yield file(
                "TIFF profile", f"{space} {bits}", values_of(in_space(profile, picture())), layout
            )
    for gamma in (1.0, 1.8):
        layout = Layout(BLACK_IS_ZERO, 16, profile=grey_profile(gamma))
        values = values_of(picture().convert("L")) ** (2.2 / gamma)
        yield file("TIFF profile", f"grey {gamma}", values, layout)


def lab_values() -> Values:
    """Return L*, a* and b* as values of 0…1, as Pillow's mode has them."""
    there = ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(
        picture(), ImageCms.createProfile("sRGB"), there, outputMode="LAB"
    )
    assert lab is not None
    planes = [np.asarray(band) for band in lab.split()]
    return np.stack([plane / 255 for plane in planes], axis=-1)


def by_pillow() -> Iterator[Generated]:
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "zstd"):
        for mode in ("L", "RGB"):
            content = encoded(picture().convert(mode), "TIFF", compression=compression)
            yield Generated("TIFF compression", f"{mode} {compression}.tif", content)
    for compression in ("group3", "group4", "tiff_ccitt"):
        content = encoded(picture().convert("1"), "TIFF", compression=compression)
        yield Generated("TIFF compression", f"1 {compression}.tif", content)
    for options in ((), ("--tile",), ("--bigtiff",)):
        for source in (picture(), with_alpha()):
            command = (VIPS, "tiffsave", "{in}", "{out}", "--compression", "webp", *options)
            content = by_program(encoded(source, "PNG"), ".tif", *command)
            name = f"{source.mode} WebP {' '.join(options)}.tif"
            yield Generated("TIFF compression", name, content)
    content = encoded(picture().convert("YCbCr"), "TIFF")
    yield Generated("TIFF compression", "YCbCr.tif", content)
