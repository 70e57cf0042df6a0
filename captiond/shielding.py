"""Work that is finished before its caller goes on, however often the caller is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a thread, and wait for its end even if the caller is cancelled meanwhile.

    A write that outlives its caller could reach a descriptor that was closed and used again.
    """
    run = partial(copy_context().run, function, *args, **kwargs)
    # It is no task: the end of the event loop cancels all tasks, but not what runs in a thread.
    return await shielded(asyncio.get_running_loop().run_in_executor(None, run))


async def shielded(work: Awaitable[T]) -> T:
    """Return the result of `work`. A caller that is cancelled continues once `work` is finished."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # guard: commit-outlives-request
        while not running.done():
            with suppress(asyncio.CancelledError):  # it is raised below
                await asyncio.wait([running])
        raise
