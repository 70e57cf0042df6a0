"""What the combinations of a test's parameters have."""

from collections.abc import Sequence
from itertools import combinations as pairs
from itertools import product
from math import prod
from typing import Any

import pytest

from tests.combinations import combinations

AXES = ((1, 3, 7, 17), "abc", (True, False))


@pytest.mark.parametrize(
    "axes", [AXES, (range(4), range(3), range(10)), (range(2), range(5), range(3), range(4))]
)
def test_any_two_values_meet(monkeypatch: pytest.MonkeyPatch, axes: Sequence[Any]) -> None:
    monkeypatch.delenv("FAULT_SOAK", raising=False)
    chosen = combinations(*axes)
    assert len(chosen) == prod(map(len, axes)) / min(map(len, axes))
    for one, other in pairs(range(len(axes)), 2):
        met = {(each[one], each[other]) for each in chosen}
        assert met == set(product(axes[one], axes[other]))


def test_a_soak_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULT_SOAK", "1")
    assert combinations(*AXES) == list(product(*AXES))
