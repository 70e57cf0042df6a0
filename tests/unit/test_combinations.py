"""What the combinations of a test's parameters have."""

from itertools import product

import pytest

from tests.combinations import combinations

AXES = ((1, 3, 7, 17), "abc", (True, False))


def test_any_two_values_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULT_SOAK", raising=False)
    chosen = combinations(*AXES)
    assert len(chosen) == 4 * 3 * 2 / 2
    for one, other in ((0, 1), (0, 2), (1, 2)):
        met = {(each[one], each[other]) for each in chosen}
        assert met == set(product(AXES[one], AXES[other]))


def test_a_soak_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULT_SOAK", "1")
    assert combinations(*AXES) == list(product(*AXES))
