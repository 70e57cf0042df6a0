"""Repeats a transaction until the database can be written, for example after a full disk."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from captiond.errors import StoreError, StoreRefused

log = structlog.get_logger()
RETRY_SECONDS = 1.0
T = TypeVar("T")


async def until_stored(action: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `action`, which is repeated while the database cannot carry it out.

    Each reason is logged once, not at every attempt: the log may be on the disk that is full.

    Raises:
        StoreRefused: The database would refuse it every time.
    """
    reason = ""
    while True:
        try:
            return await action()
        except StoreRefused:
            raise
        # guard: retry-until-stored
        except StoreError as error:
            if str(error) != reason:
                reason = str(error)
                log.error("store_waits", reason=reason)
            await asyncio.sleep(RETRY_SECONDS)
