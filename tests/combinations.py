"""Combinations of values for tests with many parameters."""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any


def combinations(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return combinations with one value of each axis: half of them, and all of them in a soak.

    Any two values of two axes meet in one of the half, if there are three axes or more, of which
    each has two values or more.
    """
    every = product(*map(enumerate, axes))
    return [
        tuple(value for _, value in chosen)
        for chosen in every
        if "FAULT_SOAK" in os.environ or sum(number for number, _ in chosen) % 2 == 0
    ]
