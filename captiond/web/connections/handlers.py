"""The tasks of one connection: the handlers of its requests."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Scope

from captiond.web.connections.inbox import RequestInbox

log = structlog.get_logger()
SendOrEnd = Callable[[Message | None], Awaitable[None]]  # None: the handler has returned


class Handlers:
    """Runs the handlers of one connection, one after the other.

    It takes the place of Hypercorn's task group, whose queues block the connection. `inbox` is that
    of the last request. `ask` is called when a handler waits for more of its request.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.inbox = RequestInbox()
        self.ask: Callable[[], Awaitable[None]] | None = None
        self._tasks = tasks

    async def spawn_app(
        self, app: ASGIApp, _config: object, scope: Scope, send: SendOrEnd
    ) -> Callable[[Message], Awaitable[None]]:
        """Start the handler of a request. Return the function that takes its messages."""
        self.inbox = RequestInbox(self.ask)
        self.spawn(run_handler, app, scope, self.inbox, send)
        return self.inbox.put

    def spawn(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a task. The connection ends after it."""
        self._tasks.create_task(function(*arguments))


async def run_handler(app: ASGIApp, scope: Scope, inbox: RequestInbox, send: SendOrEnd) -> None:
    """Run the application for one request. It answers its own errors."""
    try:
        await app(scope, inbox.receive, send)
    except Exception:  # the outermost boundary: a failed middleware must not end the process
        log.exception("handler_failed")
    finally:
        inbox.close()
        await send(None)
