"""The ASGI application: routes from the table of operations, error handlers, and middleware."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from captiond.errors import CaptiondError
from captiond.web.access.guard import Guard
from captiond.web.access.identity import Identify
from captiond.web.access.other_pages import PageGuard, ResponseHeaders, page_rules
from captiond.web.middleware import RequestContext
from captiond.web.openapi.served import ServedDocument
from captiond.web.operation import Operation
from captiond.web.operations import OPERATIONS
from captiond.web.page import PageFiles
from captiond.web.problems import on_captiond_error, on_http_error
from captiond.web.root_path import RootPath
from captiond.web.services import Services


def routes(
    operations: Sequence[Operation] = OPERATIONS, *, pages: bool = True
) -> list[Route | Mount]:
    """Return one route for each operation, and with `pages` one for the files of the web pages."""
    calls = [
        Route(
            operation.path.replace("{model}", "{model:path}"),  # its name may have slashes
            operation.handler,
            methods=[operation.method],
            name=operation.name,
            middleware=guards(operation),
        )
        for operation in operations
    ]
    return [*calls, Mount("/static", PageFiles())] if pages else [*calls]


def guards(operation: Operation) -> list[Middleware]:
    """Return the middleware of an operation: none if it is open to everyone."""
    return [] if operation.scope is None else [Middleware(Guard, needed=operation.scope)]


def paths(table: list[Route | Mount]) -> dict[object, str]:
    """Return the path template of each endpoint."""
    return {
        route.endpoint if isinstance(route, Route) else route.app: route.path for route in table
    }


def quiet_endpoints(table: list[Route | Mount], operations: Sequence[Operation]) -> set[object]:
    """Return the endpoints whose requests are logged at the level debug."""
    files = {route.app for route in table if isinstance(route, Mount)}
    return files | {operation.handler for operation in operations if operation.quiet}


def make_app(services: Services) -> ASGIApp:
    """Return the ASGI application for these services."""
    operations = [each for each in OPERATIONS if each.exists(services.settings)]
    server = services.settings.server
    table = routes(operations, pages=services.settings.node.has_api)
    rules = page_rules(server)
    app = Starlette(
        routes=table,
        middleware=[
            Middleware(RootPath, root_path=server.root_path, routes=table),
            Middleware(ResponseHeaders, rules=rules),
            Middleware(
                RequestContext,
                recorder=services.recorder,
                paths=paths(table),
                quiet=quiet_endpoints(table, operations),
                traces=services.traces,
            ),
            Middleware(PageGuard, rules=rules),
            Middleware(Identify, server=server),
        ],
        exception_handlers={CaptiondError: on_captiond_error, HTTPException: on_http_error},
    )
    app.state.services = services
    app.state.document = ServedDocument(operations, server.root_path)
    return app
