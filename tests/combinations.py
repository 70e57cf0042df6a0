"""Combinations of values for tests with many parameters."""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any


def combinations(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return combinations with one value of each axis: a part of them, and all of them in a soak.

    Any two values of two axes meet in one combination, if there are three axes or more. The part is
    one in as many as the shortest axis has values: a value of each other axis completes any two.
    """
    part = min(map(len, axes))
    every = product(*map(enumerate, axes))
    return [
        tuple(value for _, value in chosen)
        for chosen in every
        if "FAULT_SOAK" in os.environ or sum(number for number, _ in chosen) % part == 0
    ]
