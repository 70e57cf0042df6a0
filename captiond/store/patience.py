"""Retries for work that must reach the database, for as long as the disk is full."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from captiond.errors import StoreError, StoreRefused

log = structlog.get_logger()
RETRY_SECONDS = 1.0
T = TypeVar("T")


async def until_stored(action: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `action`, which is repeated until the database can carry it out.

    Raises:
        StoreRefused: The database would refuse it every time.
    """
    while True:
        try:
            return await action()
        except StoreRefused:
            raise
        except StoreError as error:
            log.error("store_waits", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
