"""Where images come from: the request, as logs and traces name it."""

import time

from starlette.requests import Request

from captiond.clients import RequestOrigin
from captiond.web.services import services_of

SPAN = "span"  # the key of a request's span in its state


def origin_of(request: Request) -> RequestOrigin:
    """Return what goes with the images of a request to the other processes."""
    state, traces = request.scope["state"], services_of(request).traces
    if traces is None or SPAN not in state:
        return RequestOrigin(state["request_id"])
    return traces.origin_of(state[SPAN], state["request_id"])


def trace_upload(request: Request, begun: float) -> None:
    """Add the upload to the trace of a request. `begun` is a time of `time.perf_counter`."""
    state, traces = request.scope["state"], services_of(request).traces
    if traces is not None and SPAN in state:
        traces.add_child(state[SPAN], "upload", begun, time.perf_counter())
