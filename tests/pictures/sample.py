"""The picture that the generated files show, and ICC profiles for it.

It has colours as photographs have them: the patches of a colour chart by their published sRGB
values, skin, leaves and a sky with soft changes and grain, saturated colours, a grey scale, black
and white.
"""

import struct
from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

WIDTH, HEIGHT = 192, 128
# The 24 patches of the ColorChecker chart.
CHART = (
    (0x735244, 0xC29682, 0x627A9D, 0x576C43, 0x8580B1, 0x67BDAA),
    (0xD67E2C, 0x505BA6, 0xC15A63, 0x5E3C6C, 0x9DBC40, 0xE0A32E),
    (0x383D96, 0x469449, 0xAF363C, 0xE7C71F, 0xBB5695, 0x0885A1),
    (0xF3F3F2, 0xC8C8C8, 0xA0A0A0, 0x7A7A79, 0x555555, 0x343434),
)
# The primaries of colour spaces, as xy, their white, and the exponent of their curve.
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
SPACES = {
    "srgb-like": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65, 2.2),
    "linear": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65, 1.0),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65, 2.2),
    "p3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), D65, 2.2),
    "prophoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), D50, 1.8),
    "rec2020": ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), D65, 2.4),
    "bt2020": ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), D65, 2.2),
    "swapped": ((0.30, 0.60), (0.64, 0.33), (0.15, 0.06), D65, 2.2),
}
Array = npt.NDArray[np.float64]
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def picture() -> Image.Image:
    """Return the picture, RGB: a copy, which a test may change."""
    return drawn().copy()


@cache
def drawn() -> Image.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    grain = np.random.default_rng(2).normal(0, 4, (HEIGHT, WIDTH, 1))
    wave = np.sin(9 * x + 5 * y) * np.cos(7 * y)
    sky = np.stack((110 + 90 * y, 160 + 60 * y, 235 - 10 * y), axis=-1)
    leaves = np.stack((70 + 40 * wave, 105 + 50 * wave, 45 + 20 * wave), axis=-1)
    pixels = np.where((y + 0.05 * np.sin(20 * x) < 0.45)[..., None], sky, leaves)
    face = (((x - 0.8) / 0.15) ** 2 + ((y - 0.5) / 0.35) ** 2)[..., None]
    skin = np.array((222.0, 172.0, 146.0)) * (1.08 - 0.3 * face)
    pixels = np.where(face < 1, skin, pixels) + grain
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    for row, colours in enumerate(CHART):
        for column, colour in enumerate(colours):
            left, top = 6 + column * 16, 40 + row * 16
            image.paste(f"#{colour:06x}", (left, top, left + 14, top + 14))
    for number, name in enumerate(("red", "lime", "blue", "cyan", "magenta", "yellow")):
        image.paste(name, (6 + number * 16, 108, 20 + number * 16, 122))
    scale = np.linspace(0, 255, WIDTH, dtype=np.uint8)
    image.paste(Image.fromarray(np.tile(scale, (8, 1))), (0, 0))
    return image


def alpha() -> Image.Image:
    """Return how opaque the picture is where it is transparent: a ramp, and a clear corner."""
    ramp = np.tile(np.linspace(64, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    ramp[:, WIDTH // 2 :] = 255
    ramp[-40:, :40] = 0
    return Image.fromarray(ramp)


def with_alpha() -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(alpha())
    return image


# ---------------------------------------------------------------- profiles


def xyz(point: tuple[float, float]) -> Array:
    return np.array((point[0] / point[1], 1.0, (1 - point[0] - point[1]) / point[1]))


def colorants(space: str) -> Array:
    """Return the columns XYZ of the three primaries, adapted to D50."""
    red, green, blue, white, _ = SPACES[space]
    primaries = np.stack([xyz(red), xyz(green), xyz(blue)], axis=1)
    matrix = primaries * np.linalg.solve(primaries, xyz(white))
    gain = (BRADFORD @ xyz(D50)) / (BRADFORD @ xyz(white))
    adapted: Array = np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ matrix
    return adapted


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def profile_of(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile of version 2 for a display."""
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(*xyz(D50)),
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    begin = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", begin + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    size = begin + len(data)
    header = struct.pack(">I4sI", size, b"test", 0x02400000) + b"mntr" + space + b"XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acspAPPL" + bytes(24)
    header += fixed(*xyz(D50))
    return header.ljust(128, b"\0") + table + data


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


@cache
def rgb_profile(space: str) -> bytes:
    matrix, gamma = colorants(space), SPACES[space][-1]
    points = {
        tag: b"XYZ \0\0\0\0" + fixed(*matrix[:, column])
        for column, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
    }
    curves = {tag: curve(gamma) for tag in (b"rTRC", b"gTRC", b"bTRC")}
    return profile_of(b"RGB ", points | curves)


def grey_profile(gamma: float) -> bytes:
    return profile_of(b"GRAY", {b"kTRC": curve(gamma)})


def in_space(profile: bytes, image: Image.Image) -> Image.Image:
    """Return an sRGB picture with the values that it has by another profile."""
    there = ImageCms.ImageCmsProfile(BytesIO(profile))
    converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), there)
    assert converted is not None
    del converted.info["icc_profile"]  # it would be saved
    return converted
