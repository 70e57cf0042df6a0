"""What an operation of the HTTP API is, and the errors that several operations have in common."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from captiond.errors import (
    BodyTooLarge,
    CaptiondError,
    CorruptImage,
    Draining,
    EmptyImage,
    FileTooLarge,
    Forbidden,
    HostNotAllowed,
    ImageTooSlow,
    ImageTypeRefused,
    MalformedBody,
    ModelNotReady,
    NoSpace,
    NotAnImage,
    NotBase64,
    OptionNotSupported,
    OriginNotAllowed,
    OutOfMemory,
    PathRefused,
    PoisonImage,
    RequestTimeout,
    SpoolError,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    TooManyFiles,
    TooManyPixels,
    TooManyRequests,
    TooMuchMemory,
    Unauthorized,
    UploadTimeout,
    UrlRefused,
    WorkerLost,
)
from captiond.keys import Scope
from captiond.web.access.admission import ClientBodyTooLarge, TooManyImages
from captiond.web.problems import InvalidRequest
from captiond.web.uploading.forms import FormSpec

Errors = tuple[type[CaptiondError], ...]


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One value that an operation takes. `schema` is its type, as pydantic understands types."""

    name: str
    place: Literal["path", "query", "header", "form"]
    description: str
    schema: Any = str
    required: bool = False


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response that is not an error.

    `schema` is the type of the JSON body, None if the body is not JSON. `headers` maps the names of
    the headers that the response adds to their descriptions.
    """

    status: int
    description: str
    schema: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the API.

    An operation with a `form` takes multipart/form-data or JSON: files, the request options, and
    the `parameters` whose place is the form. `errors` are those that answer the whole request,
    `image_errors` those that stand as `code` in the result of one image. `scope` is what a key must
    permit; None means that no key is needed and that no limits of clients apply.
    """

    method: str
    path: str
    summary: str
    handler: Callable[[Request], Awaitable[Response]]
    responses: tuple[ResponseSpec, ...]
    errors: Errors = ()
    form: FormSpec | None = None
    parameters: tuple[ParameterSpec, ...] = ()
    image_errors: Errors = ()
    scope: Scope | None = None

    @property
    def name(self) -> str:
        """The name of the route, which is unique: that of the handler."""
        return self.handler.__name__


ANY_REQUEST: Errors = (HostNotAllowed, OriginNotAllowed)
ADMISSION: Errors = (
    Unauthorized,
    Forbidden,
    TooManyRequests,
    TooManyImages,
    ClientBodyTooLarge,
)
NOT_READY: Errors = (Draining, ModelNotReady)
STORE: Errors = (StoreBusy, NoSpace, StorageFailed, StoreDamaged)
UPLOAD: Errors = (
    MalformedBody,
    BodyTooLarge,
    TooManyFiles,
    UploadTimeout,
    InvalidRequest,
    NoSpace,
    StorageFailed,
)
AT_UPLOAD: Errors = (
    EmptyImage,
    NotAnImage,
    ImageTypeRefused,
    FileTooLarge,
    PathRefused,
    NotBase64,
    UrlRefused,
)
DURING_WORK: Errors = (
    CorruptImage,
    TooManyPixels,
    TooMuchMemory,
    PoisonImage,
    ImageTooSlow,
    OutOfMemory,
    SpoolError,
    OptionNotSupported,
)
WHILE_WAITING: Errors = (Draining, ModelNotReady, WorkerLost, RequestTimeout)
