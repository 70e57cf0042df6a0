"""What tells how the service is, for people, load balancers and programs."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond import __version__
from captiond.messages import Health
from captiond.web.captioning import services_of
from captiond.web.schemas import Json

SERVICE = "captiond"


async def health(request: Request) -> Response:
    """`GET /health`: 200 while images can be captioned, else 503 with the reasons."""
    started, state = time.perf_counter(), services_of(request).desk.state
    well = state.health is Health.HEALTHY
    body: Json = {
        "status": state.health.value,
        "service": SERVICE,
        "version": __version__,
        "response_time": f"{(time.perf_counter() - started) * 1000:.1f} ms",
        "timestamp": time.time(),
    }
    if state.model is not None:
        body["model"] = state.model.name
        body["fallback"] = state.model.is_fallback
    if state.model is not None and state.model.is_fallback:
        body["warning"] = (
            f"{state.model.requested} could not be had; {state.model.name} captions in its place"
        )
    if not well:
        body["reasons"] = list(state.reasons)
    return JSONResponse(body, status_code=200 if well else 503)


async def livez(_: Request) -> Response:
    """`GET /livez`: this process answers."""
    return JSONResponse({"status": "alive"})


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 200 if images can be captioned now, else 503 with the reasons."""
    services_of(request).desk.check_ready()
    return JSONResponse({"status": "ready"})


async def version(_: Request) -> Response:
    """`GET /version`"""
    return JSONResponse({"service": SERVICE, "version": __version__})
