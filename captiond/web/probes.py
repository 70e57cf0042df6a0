"""Handlers of the probes: health, liveness, readiness and version."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from captiond import __version__
from captiond.messages import Health, State
from captiond.web.schemas import HealthReport, ProbeStatus, VersionInfo
from captiond.web.services import services_of

SERVICE = "captiond"


async def health(request: Request) -> Response:
    """Return the health of the service: 200 if images can be captioned, else 503 with reasons."""
    started, state = time.perf_counter(), services_of(request).supervisor.state
    status_code = 200 if state.reported_health is Health.HEALTHY else 503
    return JSONResponse(health_report(state, started), status_code=status_code)


def health_report(state: State, started: float) -> HealthReport:
    """Return the body for a state of the service. `started` is when the request began."""
    report: HealthReport = {
        "status": state.reported_health,
        "service": SERVICE,
        "version": __version__,
        "response_time": f"{(time.perf_counter() - started) * 1000:.1f} ms",
        "timestamp": time.time(),
    }
    if state.model is not None:
        report["model"] = state.model.name
        report["fallback"] = state.model.is_fallback
    if state.model is not None and state.model.is_fallback:
        report["warning"] = (
            f"{state.model.requested} is not available; {state.model.name} captions in its place"
        )
    if state.reported_health is not Health.HEALTHY:
        report["reasons"] = list(state.reported_reasons)
    return report


async def livez(_: Request) -> Response:
    """Return that this process answers."""
    body: ProbeStatus = {"status": "alive"}
    return JSONResponse(body)


async def readyz(request: Request) -> Response:
    """Return 200 if images can be captioned now, else 503 with the reasons."""
    services_of(request).supervisor.check_ready()
    body: ProbeStatus = {"status": "ready"}
    return JSONResponse(body)


async def version(_: Request) -> Response:
    """Return the name and the version of the service."""
    body: VersionInfo = {"service": SERVICE, "version": __version__}
    return JSONResponse(body)
