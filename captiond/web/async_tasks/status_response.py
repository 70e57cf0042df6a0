"""The response with a task's status: an entity tag, 304 if it has not changed, parts, pieces."""

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from captiond.errors import TaskNotFound
from captiond.web.async_tasks.encoded_task import EncodedStatus, Page
from captiond.web.async_tasks.status_cache import StatusCache
from captiond.web.problems import InvalidRequest

MAX_PAGE = 10_000  # images
MAX_DIGITS = 9


class StatusResponse(Response):
    """Sends a status in pieces. It is never in memory as a whole."""

    media_type = "application/json"

    def __init__(self, statuses: StatusCache, status: EncodedStatus) -> None:
        super().__init__(headers={"Content-Length": str(status.size), **headers_of(status.etag)})
        self._statuses = statuses
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for piece in self._statuses.pieces(self._status):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def status_response(request: Request, statuses: StatusCache, task_id: str) -> Response:
    """Return the status of a task, or of the part that the query asks for.

    Raises:
        TaskNotFound: There is no such task.
        InvalidRequest: `offset` or `limit` is wrong.
        StoreError: The database cannot be read now.
    """
    page = page_of(request.query_params)
    known = request.headers.get("if-none-match")
    if known is not None:
        etag = await statuses.etag(task_id, page)
        if etag is not None and matches(known, etag):
            return Response(status_code=304, headers=headers_of(etag))
    return await present_status(statuses, task_id, page)


async def present_status(
    statuses: StatusCache, task_id: str, page: Page | None = None
) -> StatusResponse:
    """Return the status of a task, whatever the client knows already.

    Raises:
        TaskNotFound: There is no such task.
        StoreError: The database cannot be read now.
    """
    status = await statuses.status(task_id, page)
    if status is None:
        raise TaskNotFound("Task not found.")
    return StatusResponse(statuses, status)


def headers_of(etag: str) -> dict[str, str]:
    """Return the headers for caches: a copy is used only after the service was asked about it."""
    return {"ETag": etag, "Cache-Control": "private, no-cache"}


def matches(known: str, etag: str) -> bool:
    """Return whether a list of entity tags in If-None-Match has this one (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    return etag in tags or tags == ["*"]


def page_of(query: QueryParams) -> Page | None:
    """Return the part of the images that a query asks for, or None for all.

    Raises:
        InvalidRequest: `offset` or `limit` is not a number, or out of range.
    """
    if "offset" not in query and "limit" not in query:
        return None
    problems: list[dict[str, object]] = []
    offset = number_of(query, "offset", 0, 0, 10**MAX_DIGITS - 1, problems)
    limit = number_of(query, "limit", MAX_PAGE, 1, MAX_PAGE, problems)
    if problems:
        raise InvalidRequest(problems)
    return Page(offset, limit)


def number_of(
    query: QueryParams,
    name: str,
    default: int,
    least: int,
    most: int,
    problems: list[dict[str, object]],
) -> int:
    """Return a number of the query. If it is wrong, add a problem in the format of FastAPI."""
    given = query.get(name, str(default))
    digits = given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS
    if digits and least <= int(given) <= most:
        return int(given)
    message = f"{name} must be a whole number from {least} to {most}"
    problems.append(
        {"type": "int_parsing", "loc": ["query", name], "msg": message, "input": given[:50]}
    )
    return default
