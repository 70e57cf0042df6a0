"""Small image files for captiond's tests, with their true captions."""

import io
import json
from pathlib import Path
from random import Random

from PIL import Image

from tools.scenes.draw import encode_jpeg, render
from tools.scenes.evaluation import Captioner
from tools.scenes.scene import Scene, Thing, caption

_SEED = 7
_SCENES = {
    "red_circle.png": Scene((Thing("circle", "red", 0.5, 0.5, 0.6),)),
    "black_cat.jpg": Scene((Thing("cat", "black", 0.48, 0.52, 0.7),)),
    "boat_and_sun.png": Scene(
        (Thing("boat", "red", 0.27, 0.55, 0.42), Thing("sun", "yellow", 0.74, 0.5, 0.4))
    ),
    "cloud_above_house.jpg": Scene(
        (Thing("cloud", "white", 0.52, 0.24, 0.4), Thing("house", "orange", 0.5, 0.74, 0.44))
    ),
    "star_inside_circle.png": Scene(
        (Thing("circle", "blue", 0.5, 0.5, 0.86), Thing("star", "yellow", 0.5, 0.5, 0.45))
    ),
    "three_in_a_row.jpg": Scene(
        (
            Thing("tree", "green", 0.17, 0.5, 0.29),
            Thing("car", "blue", 0.5, 0.55, 0.29),
            Thing("umbrella", "pink", 0.83, 0.5, 0.29),
        )
    ),
    "moon_above_fish_and_apple.jpg": Scene(
        (
            Thing("moon", "white", 0.5, 0.25, 0.36),
            Thing("fish", "orange", 0.26, 0.73, 0.38),
            Thing("apple", "green", 0.75, 0.74, 0.36),
        )
    ),
}


class WrongCaptionError(ValueError):
    """The model does not give a sample its true caption."""


def write_samples(model: Path, folder: Path) -> None:
    """Write the samples to `folder`, and scenes.json, which maps file names to captions.

    Raises:
        WrongCaptionError: `model` does not caption every sample exactly. No file is written.
    """
    files = {name: _encode(name, scene) for name, scene in _SCENES.items()}
    truth = {name: caption(scene) for name, scene in _SCENES.items()}
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in files.values()]
    given = dict(zip(files, Captioner(model)(pictures), strict=True))
    if given != truth:
        raise WrongCaptionError(f"the captions are {given}, expected {truth}")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "scenes.json").write_text(json.dumps(truth, indent=2) + "\n")


def _encode(name: str, scene: Scene) -> bytes:
    """Return the file of a sample. A PNG has few colours, so that it stays small despite noise."""
    rng = Random(f"{_SEED}:{name}")
    picture = render(scene, rng)
    if name.endswith(".jpg"):
        return encode_jpeg(picture, rng)
    buffer = io.BytesIO()
    picture.quantize(32).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
