"""Work that is cancelled when the client closes its connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. What has not been read of the request's body is discarded.

    `work` is cancelled if the client does not get its result.

    Raises:
        ClientDisconnect: the client disconnected first.
        CaptiondError: the rest of the body is malformed or too large.
    """
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        disconnecting.result()  # it may have failed: a body can become malformed
        raise ClientDisconnect
    finally:
        working.cancel()
        disconnecting.cancel()
        await asyncio.gather(working, disconnecting, return_exceptions=True)


async def disconnected(request: Request) -> None:
    """Return once the client has closed its connection."""
    # guard: disconnect-ends-work
    while (await request.receive())["type"] != "http.disconnect":
        pass
