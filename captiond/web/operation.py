"""What an operation of the HTTP API is, and the errors that several operations have in common."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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
from captiond.settings.config import Settings
from captiond.web.access.admission import ClientBodyTooLarge, TooManyImages
from captiond.web.connections.framing import (
    HeadTooLarge,
    MalformedRequest,
    TransferCodingRefused,
    UpgradeRefused,
    VersionRefused,
)
from captiond.web.problems import InvalidRequest
from captiond.web.schemas import ErrorResponse
from captiond.web.uploading.forms import FormSpec

Errors = tuple[type[CaptiondError], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Operations that stand together in the docs. A name is a word or two, and is not repeated."""

    name: str
    description: str


class Dialect(StrEnum):
    """The API of another service. `[dialects]` has a key of this name, which switches it off."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    PHOTOPRISM = "photoprism"


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One value that an operation takes. `schema` is its type, as pydantic understands types."""

    name: str
    place: Literal["path", "query", "header", "form"]
    description: str
    schema: Any = str
    required: bool = False


@dataclass(frozen=True, slots=True)
class BodySpec:
    """A body that is not a form. `schema` is its type, as pydantic understands types.

    A TypedDict or a model of pydantic describes each field by its type, and by the `description` of
    its `Field`.
    """

    schema: Any
    description: str
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response that is not an error. One status may have several, each with its media type.

    `schema` is the type of the JSON body, None if the body is not JSON. If the body is a stream,
    such as NDJSON or server-sent events, `item` is the type of the JSON in each line or event.
    `last` is the data of the last event if that is no JSON.
    `headers` maps the names of the headers that the response adds to their descriptions.
    """

    status: int
    description: str
    schema: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    item: Any = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """The form of the errors of an operation: their type, where their code is, and their status.

    `code` has the names that lead to the code: `("error", "code")` for `{"error": {"code": …}}`.
    An error of captiond is answered with its own status unless `status_of` says otherwise.
    """

    schema: Any = ErrorResponse
    code: tuple[str, ...] = ("code",)
    status_of: Callable[[type[CaptiondError]], int] = lambda error: error.status


CAPTIONS = Group("Captions", "Send images, and get their captions and tags in the answer.")
TASKS = Group("Tasks", "Send images, and get their captions later. An accepted task is on disk.")
IMPORTS = Group(
    "Imports", "How far imports of `captiond import` are. Only the command line makes them."
)
SERVICE = Group("Service", "What the service is, what it can do, and whether it works.")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the API.

    An operation with a `form` takes multipart/form-data or JSON: files, the request options, and
    the `parameters` whose place is the form. One with a `body` takes that. `errors` are those that
    answer the whole request, `image_errors` those that stand as `code` in the result of one image.
    `scope` is what a key must permit; None means that no key is needed and that no limits of
    clients apply. `description` is Markdown and follows the summary. An operation of a `dialect`
    does not exist if the settings switch the dialect off. A `quiet` operation is called again and
    again by programs, so its requests are logged at the level debug. Only operations that are
    `everywhere` exist on a node that has nothing but models.
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
    group: Group = SERVICE
    description: str = ""
    body: BodySpec | None = None
    error_form: ErrorForm = ErrorForm()
    dialect: Dialect | None = None
    quiet: bool = False
    everywhere: bool = False

    def exists(self, settings: Settings) -> bool:
        """Return whether the settings allow it."""
        if not (self.everywhere or settings.node.has_api):
            return False
        return self.dialect is None or bool(getattr(settings.dialects, self.dialect.value))

    @property
    def name(self) -> str:
        """The name of the route, which is unique: that of the handler."""
        return self.handler.__name__


ANY_REQUEST: Errors = (HostNotAllowed, OriginNotAllowed)
# Of any request too. They are raised before the request has an operation, and always have the
# usual form.
BY_THE_PROTOCOL: Errors = (
    MalformedRequest,
    UpgradeRefused,
    HeadTooLarge,
    TransferCodingRefused,
    VersionRefused,
)
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
