"""The bodies of errors in the forms of the dialects. The path of a request chooses the form.

Errors that are raised before a request has an operation have the form of its dialect too, such as
an unknown path, a wrong key or a body that is too large.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import TypedDict

UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as it is to be sent: for people, for programs, and the field that is wrong."""

    status: int
    code: str
    message: str
    request_id: str
    field: str | None = None


class OllamaError(TypedDict):
    """An error in Ollama's form. `code` and `request_id` are captiond's."""

    error: str
    code: str
    request_id: str


class OpenAIFault(TypedDict):
    """What is wrong, in OpenAI's form. `code` is captiond's code."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """An error in OpenAI's form."""

    error: OpenAIFault


class PhotoPrismError(TypedDict):
    """An error in the form of PhotoPrism's vision service.

    `code` is the HTTP status there, so captiond's code is in `error_code`.
    """

    code: int
    error: str
    error_code: str
    request_id: str


def ollama_error(fault: Fault) -> OllamaError:
    return {"error": fault.message, "code": fault.code, "request_id": fault.request_id}


def openai_error(fault: Fault) -> OpenAIError:
    return {
        "error": {
            "message": fault.message,
            "type": openai_type(fault.status),
            "param": fault.field,
            "code": fault.code,
        }
    }


def openai_type(status: int) -> str:
    """Return OpenAI's name for the kind of an error."""
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "invalid_request_error" if status < 500 else "server_error"


def photoprism_error(fault: Fault) -> PhotoPrismError:
    return {
        "code": fault.status,
        "error": fault.message,
        "error_code": fault.code,
        "request_id": fault.request_id,
    }


ErrorBody = Callable[[Fault], Mapping[str, Any]]
# By the beginning of the path. The longest one that fits goes first.
ERROR_BODIES: tuple[tuple[str, ErrorBody], ...] = (
    ("/api/v1/vision/", photoprism_error),
    ("/api/", ollama_error),
    ("/v1/", openai_error),
)


def error_body(path: str) -> ErrorBody | None:
    """Return the form of errors of a path, or None: it belongs to no dialect."""
    return next((body for start, body in ERROR_BODIES if path.startswith(start)), None)


def dialect_status(status: int) -> int:
    """Return the status of an error in a dialect. None of the services has 422."""
    return 400 if status == UNPROCESSABLE else status


def fault_of(status: int, code: str, detail: object, request_id: str) -> Fault:
    """Return an error of captiond for a dialect. A list of problems becomes a sentence."""
    if not isinstance(detail, list):
        return Fault(dialect_status(status), code, str(detail), request_id)
    fields = [field_of(problem["loc"]) for problem in detail]
    sentences = [
        f"{field}: {problem['msg']}" if field else str(problem["msg"])
        for field, problem in zip(fields, detail, strict=True)
    ]
    field = fields[0] or None if fields else None
    return Fault(dialect_status(status), code, "; ".join(sentences), request_id, field)


def field_of(place: list[str | int]) -> str:
    """Return the place of a problem as people write it: `messages[0].content`."""
    names = place[1:] if place[:1] == ["body"] else place
    parts = (f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
    return "".join(parts).removeprefix(".")
