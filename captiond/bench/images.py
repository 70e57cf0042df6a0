"""Images for the benchmark. To decode one takes as much work as a JPEG of a camera.

The same number always gives the same image.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from PIL import Image

SIZE = WIDTH, HEIGHT = 1024, 768
GRAIN = 3.5  # of 255; some 100 KB


def jpegs(numbers: Iterable[int]) -> list[bytes]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(jpeg, numbers))


def jpeg(number: int) -> bytes:
    """Return a JPEG of soft colours and grain. Each number gives a different image."""
    rng = np.random.default_rng(number)
    colours = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = np.asarray(colours.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = GRAIN * rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    buffer = BytesIO()
    picture = Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8))
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
