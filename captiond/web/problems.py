"""Errors as clients see them: `{"detail", "code", "request_id"}`, always in this shape."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from captiond.errors import CaptiondError, ModelNotReady, Unavailable
from captiond.jobs import Refused

HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


class InvalidRequest(CaptiondError):
    """Fields that are missing or wrong: told as a list, each with the place where it stands."""

    code = "invalid_request"
    status = 422

    def __init__(self, problems: list[dict[str, object]]) -> None:
        super().__init__("; ".join(str(problem["msg"]) for problem in problems))
        self.problems = problems


class ImageRefused(CaptiondError):
    """The one image of a request was refused, for a reason told elsewhere as an outcome."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.error)
        self.refused = refused


def missing(field: str) -> InvalidRequest:
    """The error of a request without a file in `field`."""
    return InvalidRequest(
        [{"type": "missing", "loc": ["body", field], "msg": "Field required", "input": None}]
    )


def problem(
    request: Request,
    status: int,
    code: str,
    detail: object,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """The response for one error."""
    request_id = request.scope["state"]["request_id"]
    body = {"detail": detail, "code": code, "request_id": request_id, **more}
    return JSONResponse(body, status_code=status, headers=headers)


async def on_captiond_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CaptiondError)
    match error:
        case InvalidRequest():
            return problem(request, error.status, error.code, error.problems)
        case ImageRefused(refused=refused):
            headers = {"Retry-After": "5"} if refused.status == 503 else None
            return problem(request, refused.status, refused.code, refused.error, headers)
        case Unavailable():
            more = {"reasons": list(error.reasons)} if isinstance(error, ModelNotReady) else {}
            headers = {"Retry-After": str(error.retry_after)}
            return problem(request, error.status, error.code, str(error), headers, **more)
    return problem(request, error.status, error.code, str(error))


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "http_error")
    return problem(request, error.status_code, code, error.detail, error.headers)
