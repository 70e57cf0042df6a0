"""Exponential back-off: how long to wait before the next attempt at something that failed."""


def backoff(failures: int, *, first: float, longest: float, factor: float = 2.0) -> float:
    """Return the seconds to wait after `failures` failures in a row.

    The delay after one failure is `first`. Each further failure multiplies it by `factor`, until it
    is `longest`. The delay is multiplied step by step: `first * factor ** (failures - 1)` raises
    OverflowError after about a thousand failures, before a limit can apply.

    Raises:
        ValueError: `failures` is less than 1, `first` is not positive, or `factor` is not above 1.
    """
    if failures < 1 or first <= 0 or factor <= 1:
        raise ValueError(f"no back-off for {failures=}, {first=}, {factor=}")
    delay = first
    for _ in range(failures - 1):
        if delay >= longest:
            break
        delay *= factor
    return min(delay, longest)
