"""Error responses: the body of an error is `{"detail", "code", "request_id"}`, or a dialect's."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from captiond.errors import CannotStore, CaptiondError, ModelNotReady, Unauthorized, Unavailable
from captiond.jobs import Refused
from captiond.web.access.admission import ClientLimited
from captiond.web.dialects.error_forms import error_body, fault_of
from captiond.web.field_problems import Problem
from captiond.web.field_problems import problem as field_problem
from captiond.web.root_path import own_path

HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 416: "range_not_satisfiable"}
RETRY_SECONDS = 5  # Retry-After of an image that was refused with one of these statuses
MAY_PASS = {503, 507}
MAX_PROBLEMS = 100  # of one response; a list of thousands helps nobody


class InvalidRequest(CaptiondError):
    """Fields are missing or wrong. `problems` is a list in the format of FastAPI.

    Only the first MAX_PROBLEMS of them are kept.

    `hint` says what to send instead of a request that cannot be what was meant.
    """

    code = "invalid_request"
    status = 422

    def __init__(self, problems: list[Problem], *, hint: str | None = None) -> None:
        self.problems = problems[:MAX_PROBLEMS]
        super().__init__("; ".join(str(problem["msg"]) for problem in self.problems))
        self.hint = hint


class TooManyWaiting(Unavailable):
    """Too many clients of this process wait for tasks, or read their events."""

    code = "too_many_waiting"


class ListRefused(CaptiondError):
    """The service has no keys, and the settings do not allow lists of tasks without one."""

    code = "list_refused"
    status = 403


class ImageRefused(CaptiondError):
    """The only image of a request was refused. The response has the code of `refused`."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.error)
        self.refused = refused
        self.retry_after = RETRY_SECONDS if refused.status in MAY_PASS else None


def missing(field: str, *, hint: str, without_root: str | None = None) -> InvalidRequest:
    """Return the error for a request that has no file in `field`. `hint` says what to send.

    `without_root` is the path that it names instead, although the settings do not allow paths.
    """
    problems = [field_problem("missing", field, "Field required", None)]
    if without_root is not None:
        message = "requests cannot name files here: [images] root is not set"
        problems.append(field_problem("value_error", "path", message, without_root))
    return InvalidRequest(problems, hint=hint)


def problem(
    request: Request,
    status: int,
    code: str,
    detail: object,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """Return the response for one error, and note the code for the metrics and the log.

    If the fault is the service's, the log gets the detail too.
    """
    request.state.error_code = code
    if status >= 500:
        request.state.error_detail = detail
    if (dialect := error_body(own_path(request.scope))) is not None:
        fault = fault_of(status, code, detail, request.state.request_id)
        return JSONResponse(dialect(fault), status_code=fault.status, headers=headers)
    body = {"detail": detail, "code": code, "request_id": request.state.request_id, **more}
    return JSONResponse(body, status_code=status, headers=headers)


async def on_captiond_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a request whose handler raised one of captiond's own errors."""
    assert isinstance(error, CaptiondError)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    more: dict[str, Any] = {}
    match error:
        case Unauthorized():
            headers["WWW-Authenticate"] = "Bearer"
        case ImageRefused(refused=refused):
            return problem(request, refused.status, refused.code, refused.error, headers)
        case InvalidRequest(problems=problems, hint=hint):
            more = {} if hint is None else {"hint": hint}
            return problem(request, error.status, error.code, problems, headers, **more)
        case ModelNotReady(reasons=reasons) | CannotStore(reasons=reasons):
            more = {"reasons": list(reasons)}
        case ClientLimited(limit=limit):
            request.state.limit = limit
    return problem(request, error.status, error.code, str(error), headers, **more)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that Starlette refused: an unknown path, or a wrong method."""
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "http_error")
    return problem(request, error.status_code, code, error.detail, error.headers)
