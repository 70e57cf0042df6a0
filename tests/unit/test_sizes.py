"""Sizes as messages show them."""

import pytest

from captiond.notation.sizes import shown_size


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB (1024 bytes)"),
        (20 * 1024**2, "20 MiB (20971520 bytes)"),
        (20 * 1024**2 + 64 * 1024, "20.06 MiB (21037056 bytes)"),
        (1000 * 1024**2, "1000 MiB (1048576000 bytes)"),
        (5000 * 1024**4, "5000 TiB (5497558138880000 bytes)"),
    ],
)
def test_a_size_is_for_people_and_exact(size: int, shown: str) -> None:
    assert shown_size(size) == shown
