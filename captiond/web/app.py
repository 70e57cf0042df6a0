"""The application: one table of routes, one table of errors, and what stands around them."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from captiond.errors import CaptiondError
from captiond.web import captioning, probes
from captiond.web.middleware import DrainUnreadBody, RequestContext
from captiond.web.problems import on_captiond_error, on_http_error
from captiond.web.services import Services

STATIC = Path(__file__).parent / "static"


async def page(_: Request) -> Response:
    """`GET /`"""
    return FileResponse(STATIC / "index.html")


def routes() -> list[Route | Mount]:
    return [
        Route("/", page),
        Route("/caption", captioning.caption, methods=["POST"]),
        Route("/batch-caption", captioning.batch_caption, methods=["POST"]),
        Route("/async-batch-caption", captioning.async_batch_caption, methods=["POST"]),
        Route("/async-batch-caption/status/{task_id}", captioning.task_status, name="task_status"),
        Route("/async-batch-caption/{task_id}", captioning.cancel_task, methods=["DELETE"]),
        Route("/health", probes.health),
        Route("/livez", probes.livez),
        Route("/readyz", probes.readyz),
        Route("/version", probes.version),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def make_app(services: Services) -> ASGIApp:
    """The ASGI application on its services."""
    app = Starlette(
        routes=routes(),
        middleware=[Middleware(RequestContext)],
        exception_handlers={CaptiondError: on_captiond_error, HTTPException: on_http_error},
    )
    app.state.services = services
    return DrainUnreadBody(app, seconds=services.settings.limits.upload_seconds)
