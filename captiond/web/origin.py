"""Where images come from: the request, as logs and traces name it."""

from starlette.requests import Request

from captiond.jobs import RequestOrigin


def origin_of(request: Request) -> RequestOrigin:
    """Return what goes with the images of a request to the other processes."""
    return RequestOrigin(request.scope["state"]["request_id"])
