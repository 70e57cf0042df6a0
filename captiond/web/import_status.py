"""Handlers of the calls for imports: list them, show one, cancel it.

Only `captiond import` makes one. A client could otherwise make the service read any path or bucket.
"""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond.errors import ImportNotFound
from captiond.store.results import is_storable
from captiond.store.shards import cancel_import as cancel_in_store
from captiond.store.shards import newest_imports, read_import
from captiond.web.async_tasks.status_response import number_of
from captiond.web.async_tasks.task_list import MOST, USUAL_LIMIT
from captiond.web.import_schemas import ImportList, import_item
from captiond.web.problems import InvalidRequest
from captiond.web.services import services_of

NOT_STORED = {"Cache-Control": "private, no-store"}


async def list_imports(request: Request) -> Response:
    """Return the newest imports."""
    problems: list[dict[str, object]] = []
    limit = number_of(request.query_params, "limit", USUAL_LIMIT, 1, MOST, problems)
    if problems:
        raise InvalidRequest(problems)
    found = await newest_imports(services_of(request).engine, limit)
    body: ImportList = {"items": [import_item(state) for state in found]}
    return JSONResponse(body, headers=NOT_STORED)


async def show_import(request: Request) -> Response:
    """Return one import."""
    state = await read_import(services_of(request).engine, import_id_of(request))
    return JSONResponse(import_item(state), headers=NOT_STORED)


async def cancel_import(request: Request) -> Response:
    """Cancel an import, and return it. Processes that work at it notice within seconds."""
    engine, import_id = services_of(request).engine, import_id_of(request)
    await cancel_in_store(engine, import_id, time.time())
    return await show_import(request)


def import_id_of(request: Request) -> str:
    """Return the id that a request names. Raises ImportNotFound if no import can have it."""
    import_id: str = request.path_params["import_id"]
    if not is_storable(import_id):  # PostgreSQL would refuse the statement
        raise ImportNotFound("there is no such import")
    return import_id
