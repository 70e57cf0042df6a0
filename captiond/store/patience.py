"""Repeats a transaction: for a moment after a conflict, or until the database can be written."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog

from captiond.errors import StoreConflict, StoreError, StoreRefused

log = structlog.get_logger()
RETRY_SECONDS = 1.0
CONFLICT_SECONDS = (0.01, 0.05, 0.2, 0.5, 1.0)  # before each repetition after a conflict
P = ParamSpec("P")
T = TypeVar("T")


def repeated(transaction: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Make a function repeat its one transaction if that was rolled back and may succeed.

    Two transactions may wait for each other, or the connection is lost before the commit. Nothing
    was changed then. After the last repetition the error is raised.
    """

    @wraps(transaction)
    async def repeating(*arguments: P.args, **options: P.kwargs) -> T:
        for seconds in CONFLICT_SECONDS:
            try:
                return await transaction(*arguments, **options)
            # guard: repeat-after-conflict
            except StoreConflict as error:
                log.info("transaction_repeated", operation=transaction.__name__, reason=str(error))
            await asyncio.sleep(seconds * random.uniform(0.5, 1.0))
        return await transaction(*arguments, **options)

    return repeating


async def until_stored(
    action: Callable[[], Awaitable[T]], *, final: tuple[type[StoreError], ...] = (StoreRefused,)
) -> T:
    """Return the result of `action`, which is repeated while the database cannot carry it out.

    Each reason is logged once, not at every attempt: the log may be on the disk that is full.

    Raises:
        StoreError: One of those that are `final`. The default is what the database would refuse
            every time.
    """
    reason = ""
    while True:
        try:
            return await action()
        except final:
            raise
        # guard: retry-until-stored
        except StoreError as error:
            if str(error) != reason:
                reason = str(error)
                log.error("store_waits", reason=reason)
            await asyncio.sleep(RETRY_SECONDS)
