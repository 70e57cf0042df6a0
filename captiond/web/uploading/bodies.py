"""The readers of bodies: one for multipart/form-data, one for JSON. Content-Type chooses."""

from collections.abc import AsyncIterator
from typing import Protocol

from starlette.requests import Request

from captiond.errors import MalformedBody
from captiond.settings.config import Settings
from captiond.web.field_problems import extra
from captiond.web.problems import InvalidRequest, missing
from captiond.web.uploading.formparts import TAKEN
from captiond.web.uploading.formreader import FormReader
from captiond.web.uploading.forms import Form, FormSpec, check_length
from captiond.web.uploading.hints import hint_for
from captiond.web.uploading.jsonbody import JsonReader
from captiond.web.uploading.jsonforms import fill_form
from captiond.web.uploading.multipart import (
    MultipartReader,
    boundary_of,
    parse_parameters,
)
from captiond.web.uploading.partnames import charset_of

MULTIPART = b"multipart/form-data"
UTF_8 = {b"", b"utf-8", b"utf8", b"us-ascii"}


class BodyReader(Protocol):
    """Parses one body, and calls a `FormReader` for its parts."""

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body. Raises MalformedBody, BodyTooLarge, TooManyFiles."""

    def close(self) -> None:
        """End the body. Raises MalformedBody, InvalidRequest, TooManyFiles."""


class JsonFormReader:
    """Parses a JSON body into a form. Its methods are those of `BodyReader`."""

    def __init__(self, settings: Settings, spec: FormSpec, form: Form, parts: FormReader) -> None:
        self._settings = settings
        self._spec = spec
        self._form = form
        self._reader = JsonReader(
            spec.json_places,
            spec.field,
            parts,
            max_document=spec.max_document(settings.limits),
            max_values=spec.max_values(settings.limits),
        )

    def feed(self, data: bytes) -> None:
        self._reader.feed(data)

    def close(self) -> None:
        self._reader.close()
        self._form.document = self._reader.document
        if not self._spec.places:
            fill_form(self._form, self._spec, self._settings)


def body_reader(
    request: Request, settings: Settings, spec: FormSpec, form: Form, parts: FormReader
) -> tuple[BodyReader, int]:
    """Return a reader for the body of a request, and how many bytes the body may have.

    Raises:
        InvalidRequest: the body is neither a form nor JSON, or an option is in the URL.
        MalformedBody: the Content-Type is wrong.
    """
    kind, parameters = parse_parameters(request.headers.get("content-type", "").encode("latin-1"))
    if not spec.places:
        check_query(request)
    if spec.places or is_json(kind):
        # guard: json-is-utf-8
        if parameters.get(b"charset", b"").lower() not in UTF_8:
            raise MalformedBody("malformed JSON body: its charset must be UTF-8")
        return JsonFormReader(settings, spec, form, parts), spec.max_json_bytes(settings.limits)
    if kind == MULTIPART:
        reader = MultipartReader(boundary_of(parameters), parts, charset_of(parameters))
        return reader, spec.max_bytes(settings.limits)
    raise missing(spec.field, hint=hint_for(kind, spec, form))


def check_query(request: Request) -> None:
    """Refuse a request with options in its URL, where they would have no effect."""
    misplaced = [name for name in request.query_params if name in TAKEN]
    if misplaced:
        hint = "send it in the body, not in the URL"
        raise InvalidRequest(
            [extra(name, request.query_params[name], hint, place="query") for name in misplaced]
        )


def is_json(kind: bytes) -> bool:
    """Return whether a media type is JSON: `application/json`, or one with the suffix `+json`."""
    prefix = b"application/"
    return kind == prefix + b"json" or (kind.startswith(prefix) and kind.endswith(b"+json"))


async def chunks(request: Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the chunks of a request's body as they arrive.

    Raises:
        BodyTooLarge: Content-Length, or what has arrived, is over `max_bytes`.
    """
    check_length(int(request.headers.get("content-length", 0)), max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        check_length(received, max_bytes)
        yield chunk
