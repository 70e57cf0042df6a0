"""For work that must reach the database, however long the disk is full."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from captiond.errors import StoreError

log = structlog.get_logger()
RETRY_SECONDS = 1.0
T = TypeVar("T")


async def until_stored(action: Callable[[], Awaitable[T]]) -> T:
    """The result of `action`, tried again and again while the database cannot take it."""
    while True:
        try:
            return await action()
        except StoreError as error:
            log.error("store_waits", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
