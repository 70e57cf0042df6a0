"""Resizing in numbers, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.geometry import Geometry
from captiond.decoding.resampling import columns_first, resized

RESAMPLING = Image.Resampling
MANY = 150  # sizes, and of each filter half as many


@pytest.mark.parametrize("resample", [RESAMPLING.BICUBIC, RESAMPLING.BILINEAR], ids=str)
@pytest.mark.parametrize(("height", "width"), [(64, 48), (48, 64), (64, 64)])
def test_pixels_are_those_of_pillow(resample: Image.Resampling, height: int, width: int) -> None:
    """Sizes on both sides of where Pillow changes the order of its passes."""
    geometry = Geometry(height, width, resample)
    numbers = np.random.default_rng(height * width)
    orders = set[bool]()
    for _ in range(MANY):
        old = tuple(int(side) for side in numbers.integers(1, 260, 2))
        image = numbers.integers(0, 256, (*old, 3), dtype=np.uint8)
        if numbers.integers(2):
            image = np.where(image > 127, 255, 0).astype(np.uint8)  # sums reach over both ends
        theirs = Image.fromarray(image).resize((width, height), resample)
        assert np.array_equal(resized(image, geometry), np.asarray(theirs)), old
        orders.add(columns_first(old[1], old[0], geometry))
    assert orders == {False, True}


def test_other_filters_have_no_weights() -> None:
    image = np.zeros((5, 5, 3), np.uint8)
    with pytest.raises(KeyError):
        resized(image, Geometry(3, 3, RESAMPLING.LANCZOS))
