"""The results of a task as a file: JSON, JSON lines or CSV, in upload order.

They are read, encoded and sent in parts, so a task of any size takes the same memory. All parts are
of one revision of the task, the one that the response's ETag names.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from captiond.errors import TaskNotFound
from captiond.jobs import TaskState
from captiond.notation.csvrows import csv_header, csv_row
from captiond.store.engine import Engine
from captiond.store.history import StoredResult, results_from
from captiond.store.snapshots import read_state
from captiond.web.acceptance import qualities
from captiond.web.access.ownership import check_owner
from captiond.web.async_tasks.event_log import image_of_result
from captiond.web.async_tasks.status_response import headers_of, matches
from captiond.web.problems import InvalidRequest
from captiond.web.schemas import ImageResult, encoded, image_result
from captiond.web.services import services_of

RESULTS = 50  # of a part; to encode them takes a few milliseconds
STATUS_HEADER = "Task-Status"


class ResultFormat(StrEnum):
    """The form of the results. The value is what `?format=` and the file's name say."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


MEDIA_TYPES = {
    ResultFormat.JSON: "application/json",
    ResultFormat.NDJSON: "application/x-ndjson",
    ResultFormat.CSV: "text/csv",
}


async def task_results(request: Request) -> Response:
    """Return the results that a task has so far, as a file."""
    engine, task_id = services_of(request).engine, request.path_params["task_id"]
    await check_owner(request, task_id)
    chosen = format_of(request)
    state = await read_state(engine, task_id)
    if state is None:
        raise TaskNotFound("Task not found.")
    etag = f'"{state.revision}-{chosen.value}"'
    headers = {**headers_of(etag), STATUS_HEADER: state.status.value, "Vary": "Accept"}
    known = request.headers.get("if-none-match")
    if known is not None and matches(known, etag):
        return Response(status_code=304, headers=headers)
    charset = "; charset=utf-8" if chosen is ResultFormat.CSV else ""
    headers["Content-Type"] = MEDIA_TYPES[chosen] + charset
    headers["Content-Disposition"] = f'attachment; filename="{task_id}.{chosen.value}"'
    if request.method == "HEAD":
        return StreamingResponse(iter(()), headers=headers)
    return StreamingResponse(body(engine, state, chosen), headers=headers)


def format_of(request: Request) -> ResultFormat:
    """Return the format that the query names, or else the one that the client accepts most.

    Raises:
        InvalidRequest: The query names another one.
    """
    named = request.query_params.get("format")
    if named is None:
        return accepted(request.headers.get("accept", ""))
    try:
        return ResultFormat(named)
    except ValueError:
        message = "format must be json, ndjson or csv"
        where = ["query", "format"]
        raise InvalidRequest(
            [{"type": "enum", "loc": where, "msg": message, "input": named[:50]}]
        ) from None


def accepted(accept: str) -> ResultFormat:
    """Return the format that an Accept header prefers, JSON if it names none (RFC 9110, 12.5.1)."""
    quality = qualities(accept)
    return max(ResultFormat, key=lambda chosen: quality.get(MEDIA_TYPES[chosen], 0.0))


# ---------------------------------------------------------------- the body


async def body(engine: Engine, state: TaskState, chosen: ResultFormat) -> AsyncIterator[bytes]:
    """Yield the body in parts.

    Raises:
        StoreError: The database cannot be read. The client sees that the body is not complete.
    """
    parts = result_parts(engine, state)
    match chosen:
        case ResultFormat.JSON:
            async for piece in json_body(state, parts):
                yield piece
        case ResultFormat.NDJSON:
            async for part in parts:
                yield b"".join(encoded(result) + b"\n" for result in part)
        case ResultFormat.CSV:
            yield csv_header().encode()
            async for part in parts:
                yield "".join(map(csv_row, part)).encode(errors="replace")


async def json_body(
    state: TaskState, parts: AsyncIterator[Sequence[ImageResult]]
) -> AsyncIterator[bytes]:
    """Yield one JSON object."""
    head = {"task_id": state.id, "status": state.status.value, "complete": state.status.terminal}
    yield encoded(head)[:-1] + b',"results":['
    separator = b""
    async for part in parts:
        yield separator + b",".join(map(encoded, part))
        separator = b","
    yield b"]}"


async def result_parts(engine: Engine, state: TaskState) -> AsyncIterator[Sequence[ImageResult]]:
    """Yield the results that a task has in this state, in upload order."""
    position = 0
    while rows := await results_from(
        engine, state.id, position, revision=state.revision, limit=RESULTS
    ):
        yield [*results_of_rows(rows)]
        position = rows[-1][1] + 1


def results_of_rows(rows: Iterable[StoredResult]) -> Iterable[ImageResult]:
    for row in rows:
        image = image_of_result(row)
        assert image.outcome is not None
        yield image_result(image.filename, image.sha256, image.outcome)
