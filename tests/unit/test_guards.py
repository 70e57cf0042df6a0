"""The guards that `make guards` takes out are where it looks for them."""

import pytest

from tests.faults.guards import GUARDS, PROJECT, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_once(guard: Guard) -> None:
    assert (PROJECT / guard.file).read_text().count(guard.there) == 1
