"""Server-sent events of a task: each result as it is stored, the progress, and the end.

This is the protocol of the HTML standard (9.2, Server-sent events). sse-starlette has it as well,
but runs four tasks for each client, decodes each piece for its log even if that is off, learns of a
stop from uvicorn only, and cuts a stream off in a stop instead of ending it.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from captiond.errors import Draining, StoreError, TaskNotFound
from captiond.jobs import TaskState
from captiond.store.history import START, Place
from captiond.store.snapshots import read_state
from captiond.web.access.ownership import check_owner
from captiond.web.async_tasks.event_log import END, EventLog, event, id_of
from captiond.web.async_tasks.task_watch import TaskWatch, WatchedTask
from captiond.web.disconnects import unless_disconnected
from captiond.web.problems import InvalidRequest
from captiond.web.services import services_of

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still there\n\n"
RECONNECT_MS = 3000
BEGIN = b"retry: %d\n\n" % RECONNECT_MS
RECONNECT = event("reconnect", {"detail": "the stream ends here; continue with Last-Event-ID"})
MEDIA_TYPE = "text/event-stream"
HEADERS = {
    "Content-Type": MEDIA_TYPE,
    "Cache-Control": "private, no-store",
    "X-Accel-Buffering": "no",  # nginx would otherwise collect the events
}
EVENT_ID = re.compile(r"(\d{1,18})-(\d{1,9}|end)")


class EventStream(Response):
    """Sends the events of a task that follow `place`, until it is finished or the service stops.

    Unless it `follows` the task, it sends those that there are in this `state` of the task.
    """

    def __init__(
        self, watch: TaskWatch, log: EventLog, state: TaskState, place: Place, *, follows: bool
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._watch = watch
        self._log = log
        self._state = state
        self._place = place
        self._follows = follows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._task() as task:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if scope["method"] != "HEAD":
                await unless_disconnected(Request(scope, receive), self._send_events(task, send))
            await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def _task(self) -> AsyncIterator[WatchedTask]:
        """Watch the task, or keep it as it is: a client that does not follow it does not wait."""
        if self._follows:
            async with self._watch.watching(self._state.id) as watched:
                yield watched
        else:
            task = WatchedTask()
            task.update(self._state)
            yield task

    async def _send_events(self, task: WatchedTask, send: Send) -> None:
        """Send all events. A stream that ends too early says so."""
        await self._send(send, BEGIN)
        try:
            reached = await self._follow(task, send)
        except StoreError:
            reached = False
        if not reached:
            # guard: streams-end-in-a-stop
            await self._send(send, RECONNECT)

    async def _follow(self, task: WatchedTask, send: Send) -> bool:
        """Send what there is, then what comes. Return whether that is all the client has to get.

        Raises:
            StoreError: The database cannot be read now.
        """
        reported = None
        while (state := task.state) is not None and not task.stopping:
            part = await self._log.after(state, self._place)
            self._place = part.last
            if part.full:
                await self._send(send, part.data)
            elif state.status.terminal:
                await self._send(send, part.data, await self._end(state))
                return True
            elif part.data or state.revision != reported:
                # Each piece costs about the same, so the results and the progress are one.
                await self._send(send, part.data, await self._progress(state))
                reported = state.revision
            elif not self._follows:
                return True
            elif state == task.state and not await task.change(HEARTBEAT_SECONDS):
                await self._send(send, HEARTBEAT)
        return False

    async def _progress(self, state: TaskState) -> bytes:
        item = await self._log.item(state)
        return event("progress", {"status": item["status"], "progress": item["progress"]})

    async def _end(self, state: TaskState) -> bytes:
        return event("end", await self._log.item(state), id_of(Place(state.revision, END)))

    async def _send(self, send: Send, *events: bytes) -> None:
        """Send events that all clients share. They are joined late: a thousand copies are 50 MB."""
        await self._watch.turn()
        await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})


async def task_events(request: Request) -> Response:
    """Return the stream of a task's events, or 204 if the client has its end already."""
    services, task_id = services_of(request), request.path_params["task_id"]
    await check_owner(request, task_id)
    place = place_of(request.headers.get("last-event-id"))
    follows = follows_of(request.query_params)
    state = await read_state(services.engine, task_id)
    if state is None:
        raise TaskNotFound("Task not found.")
    if place.revision > state.revision:  # the database was restored from a backup since
        place = START
    if place == Place(state.revision, END) and state.status.terminal:
        return Response(status_code=204)  # a browser then stops to reconnect
    if services.supervisor.closed.is_set():
        raise Draining("captiond is stopping; try again shortly")
    return EventStream(services.watch, services.events, state, place, follows=follows)


def follows_of(query: QueryParams) -> bool:
    """Return whether the stream is to follow the task until its end.

    Raises:
        InvalidRequest: `follow` is neither true nor false.
    """
    given = query.get("follow", "true")
    if given not in {"true", "false"}:
        message, place = "follow must be true or false", ["query", "follow"]
        raise InvalidRequest(
            [{"type": "bool_parsing", "loc": place, "msg": message, "input": given[:50]}]
        )
    return given == "true"


def place_of(event_id: str | None) -> Place:
    """Return the place after which a client wants events.

    Raises:
        InvalidRequest: It is not the id of an event.
    """
    if not event_id:
        return START
    found = EVENT_ID.fullmatch(event_id)
    if found is None:
        message = "Last-Event-ID must be the id of an event of this task"
        place = ["header", "Last-Event-ID"]
        raise InvalidRequest(
            [{"type": "value_error", "loc": place, "msg": message, "input": event_id[:50]}]
        )
    return Place(int(found[1]), END if found[2] == "end" else int(found[2]))
