"""The delay before the next attempt grows and has a limit, however many attempts have failed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.backoff import backoff
from captiond.callbacks import RetrySchedule, planned_delay
from captiond.supervisor.restarter import restart_delay

MANY = 10_000  # a service without a model fails so often in three and a half days


def test_the_delay_doubles_up_to_its_limit() -> None:
    delays = [backoff(failures, first=0.25, longest=3.0) for failures in range(1, 7)]
    assert delays == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_another_factor_and_a_first_delay_above_the_limit() -> None:
    assert [backoff(failures, first=5, longest=99, factor=5) for failures in (1, 2, 3)] == [
        5,
        25,
        99,
    ]
    assert backoff(1, first=7, longest=3) == 3


@given(
    first=st.floats(min_value=1e-6, max_value=1e300),
    longest=st.floats(min_value=1e-6, allow_infinity=False),
    factor=st.floats(min_value=1.5, max_value=1e300),
)
def test_it_is_monotone_and_bounded_for_all_numbers(
    first: float, longest: float, factor: float
) -> None:
    delays = [
        backoff(failures, first=first, longest=longest, factor=factor)
        for failures in (1, 2, 3, 50, 1025, MANY, 10**30)
    ]
    assert delays == sorted(delays)
    assert all(0 < delay <= longest for delay in delays)


@pytest.mark.parametrize(
    ("failures", "first", "factor"), [(0, 1.0, 2.0), (1, 0.0, 2.0), (1, 1.0, 1.0)]
)
def test_what_could_loop_without_end_is_refused(failures: int, first: float, factor: float) -> None:
    with pytest.raises(ValueError, match="no back-off"):
        backoff(failures, first=first, longest=9.0, factor=factor)


@pytest.mark.parametrize("killed", [False, True])
def test_the_delay_before_a_restart_stays_bounded(*, killed: bool) -> None:
    delays = [restart_delay(failures, killed=killed) for failures in range(1, MANY + 1)]
    assert delays == sorted(delays)
    assert delays[0] == 0.25
    assert math.isclose(delays[-1], 2.0 if killed else 30.0)


def test_the_delay_before_a_webhook_is_called_again_stays_bounded() -> None:
    patience = RetrySchedule(attempts=MANY, first=5.0, longest=86400.0)
    delays = [planned_delay(attempt, patience) for attempt in range(1, MANY + 1)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (5.0, 86400.0)
