"""What `[images] color` changes: pixels and captions of scenes whose files have an ICC profile.

python -m tools.colour_report                 1,000 scenes, captioned by captiond/scenes

Each scene is stored as a photograph of it would be: with the values that its colours have by the
profile. So with the right conversion it looks like the scene.
"""

import argparse
import sys
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from captiond.captioners.files import EMBEDDED
from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded
from tests.pictures.sample import in_space, rgb_profile
from tests.pictures.viewer import difference
from tools.scenes.dataset import Sample, draw_sample, open_picture
from tools.scenes.evaluation import EVALUATION_SEED, Captioner

SRGB = "sRGB"
SPACES = {SRGB: "", "Display P3": "p3", "Adobe RGB": "adobe", "ProPhoto RGB": "prophoto"}
BATCH = 50
GEOMETRY = Geometry(64, 64, Image.Resampling.BICUBIC)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.colour_report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scenes", type=int, default=1000, help="how many scenes to draw")
    options = parser.parse_args(argv)
    set_up_pillow(ImageSettings())
    captioner = Captioner(EMBEDDED["captiond/scenes"])
    samples = [draw_sample(EVALUATION_SEED, number) for number in range(options.scenes)]
    print("| profile | mean ΔE | exact, convert | exact, ignore | captions that differ |")
    print("|---|---|---|---|---|")
    for name in SPACES:
        print_row(name, samples, captioner)
    return 0


def print_row(name: str, samples: list[Sample], captioner: Captioner) -> None:
    """Caption all scenes with a profile in both ways, and print the counts."""
    files = [stored(open_picture(sample.jpeg), SPACES[name]) for sample in samples]
    convert, ignore = (
        [pixels_of(file, ImageSettings(color=color)) for file in files]
        for color in ("convert", "ignore")
    )
    distance = float(np.mean([difference(*pair) for pair in zip(convert, ignore, strict=True)]))
    seen = [captions_of(pixels, captioner) for pixels in (convert, ignore)]
    exact = [
        sum(given == sample.caption for given, sample in zip(each, samples, strict=True))
        for each in seen
    ]
    differing = sum(one != other for one, other in zip(*seen, strict=True))
    shares = [f"{100 * count / len(samples):.1f} %" for count in (*exact, differing)]
    print(f"| {name} | {distance:.1f} | {' | '.join(shares)} |", flush=True)


def stored(picture: Image.Image, space: str) -> bytes:
    """Return a PNG of a picture with a profile."""
    if not space:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        return encoded(picture, "PNG", icc_profile=profile)
    profile = rgb_profile(space)
    return encoded(in_space(profile, picture), "PNG", icc_profile=profile)


def pixels_of(file: bytes, settings: ImageSettings) -> Pixels:
    return decode(BytesIO(file), GEOMETRY, settings)[0]


def captions_of(pixels: list[Pixels], captioner: Captioner) -> list[str]:
    captions: list[str] = []
    for begin in range(0, len(pixels), BATCH):
        captions += captioner([Image.fromarray(each) for each in pixels[begin : begin + BATCH]])
    return captions


if __name__ == "__main__":
    sys.exit(main())
