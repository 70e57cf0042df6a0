"""Lists of tasks, the newest first, in parts. A cursor names the task after which a part begins."""

import base64
import binascii
import json
import math

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.jobs import Status
from captiond.store.listing import ListPlace, newest_tasks
from captiond.store.results import is_storable
from captiond.web.access.ownership import listed_client
from captiond.web.async_tasks.status_response import number_of
from captiond.web.problems import InvalidRequest
from captiond.web.services import services_of
from captiond.web.task_schemas import TaskList, task_item

USUAL_LIMIT, MOST = 20, 100
MOST_CHARACTERS = 300  # of a cursor


async def list_tasks(request: Request) -> Response:
    """Return a part of the tasks that the client may see, the last accepted first."""
    client = listed_client(request)
    limit, status, after = asked(request.query_params)
    # One more than asked for shows whether another part follows.
    found = await newest_tasks(
        services_of(request).engine, limit + 1, status, client=client, after=after
    )
    shown = found[:limit]
    body: TaskList = {
        "items": [task_item(task.state, task.counts) for task in shown],
        "next": cursor_of(shown[-1].place) if len(found) > limit else None,
    }
    return JSONResponse(body, headers={"Cache-Control": "private, no-store"})


def asked(query: QueryParams) -> tuple[int, Status | None, ListPlace | None]:
    """Return the limit, the status and the place that a query names.

    Raises:
        InvalidRequest: One of them is wrong.
    """
    problems: list[dict[str, object]] = []
    limit = number_of(query, "limit", USUAL_LIMIT, 1, MOST, problems)
    status, after = query.get("status"), query.get("cursor")
    place = place_of_cursor(after) if after is not None else None
    if status is not None and status not in {*Status}:
        message = f"status must be one of {', '.join(Status)}"
        problems.append(problem_of("status", message, status))
    if after is not None and place is None:
        message = "cursor must be the field next of an earlier answer"
        problems.append(problem_of("cursor", message, after))
    if problems:
        raise InvalidRequest(problems)
    return limit, Status(status) if status is not None else None, place


def problem_of(name: str, message: str, given: str) -> dict[str, object]:
    return {"type": "value_error", "loc": ["query", name], "msg": message, "input": given[:50]}


def cursor_of(place: ListPlace) -> str:
    """Return the cursor that continues a list after this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of_cursor(cursor: str) -> ListPlace | None:
    """Return the place that a cursor names, or None if it is not one of ours."""
    try:
        if len(cursor) > MOST_CHARACTERS:
            return None
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        read = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, json.JSONDecodeError):
        return None
    match read:
        case [float(created_at), str(task_id)] if math.isfinite(created_at) and task_id.isascii():
            place = ListPlace(created_at, task_id)
            ours = is_storable(task_id) and cursor_of(place) == cursor
            return place if ours else None
    return None
