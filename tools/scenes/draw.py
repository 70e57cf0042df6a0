"""Pictures of scenes, with random size, shape, shades, background, noise and JPEG quality."""

import io
from random import Random

import numpy as np
from PIL import Image

from tools.scenes.kinds import KINDS, Pen
from tools.scenes.palette import COLOURS, CONTRAST, RGB, distance, mix, pick_background
from tools.scenes.scene import Scene, Thing, is_inside

SIDES = (96, 240)  # the smallest and the largest width of a picture, in pixels
QUALITIES = (45, 95)
_ASPECTS = (0.87, 1.15)
_TILT = 9  # degrees
_FINER = 2  # things are drawn this many times larger and then reduced


def render(scene: Scene, rng: Random) -> Image.Image:
    """Draw `scene` as an RGB picture. The same state of `rng` gives the same pixels."""
    width = rng.randint(*SIDES)
    height = round(width * rng.uniform(*_ASPECTS))
    shades = _pick_shades(scene, rng)
    free = [s for s, t in zip(shades, scene.things, strict=True) if not _is_contained(t, scene)]
    canvas = _backdrop(width, height, pick_background(rng, free), rng)
    for thing, shade in zip(scene.things, shades, strict=True):
        _place(canvas, thing, shade, rng)
    return _noisy(canvas, rng)


def encode_jpeg(picture: Image.Image, rng: Random) -> bytes:
    """Return `picture` as a JPEG file of random quality."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=rng.randint(*QUALITIES))
    return buffer.getvalue()


def _is_contained(thing: Thing, scene: Scene) -> bool:
    return any(is_inside(thing, other) for other in scene.things if other != thing)


def _pick_shades(scene: Scene, rng: Random) -> list[RGB]:
    """Choose a shade for each thing, with enough contrast between a thing and its container."""
    while True:
        shades = [COLOURS[thing.colour].pick(rng) for thing in scene.things]
        pairs = list(zip(scene.things, shades, strict=True))
        if all(
            distance(shade, outer_shade) >= CONTRAST
            for thing, shade in pairs
            for outer, outer_shade in pairs
            if outer != thing and is_inside(thing, outer)
        ):
            return shades


def _backdrop(width: int, height: int, colour: RGB, rng: Random) -> Image.Image:
    """Return a canvas of one dull colour, in half of the cases with a faint vertical gradient."""
    canvas = Image.new("RGB", (width, height), colour)
    if rng.random() < 0.5:
        toward = rng.choice(((0, 0, 0), (255, 255, 255)))
        end = mix(colour, toward, rng.uniform(0.02, 0.12))
        shade = Image.linear_gradient("L").resize((width, height))
        canvas.paste(Image.new("RGB", (width, height), end), (0, 0), shade)
    return canvas


def _place(canvas: Image.Image, thing: Thing, shade: RGB, rng: Random) -> None:
    side = max(8, round(thing.side * min(canvas.size)))
    pen = Pen(side * _FINER, shade)
    KINDS[thing.kind](pen)
    tile = pen.tile
    if rng.random() < 0.5:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tilt = rng.uniform(-_TILT, _TILT)
    tile = tile.rotate(tilt, Image.Resampling.BILINEAR, expand=True, fillcolor=pen.clear)
    tile = tile.reduce(_FINER)
    left = round(thing.x * canvas.width - tile.width / 2)
    top = round(thing.y * canvas.height - tile.height / 2)
    canvas.paste(tile, (left, top), tile)


def _noisy(canvas: Image.Image, rng: Random) -> Image.Image:
    """Add Gaussian noise of random strength to every channel of two thirds of the pictures."""
    if rng.random() < 1 / 3:
        return canvas
    grain = np.random.default_rng(rng.getrandbits(64))
    pixels = np.asarray(canvas, dtype=np.float32)
    strength = np.float32(rng.uniform(2, 14))
    noise = grain.standard_normal(pixels.shape, dtype=np.float32) * strength
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
