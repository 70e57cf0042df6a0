"""A multipart/form-data body, parsed by python-multipart as it comes. Nothing is kept here."""

from collections.abc import AsyncIterator
from typing import Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from captiond.errors import BodyTooLarge, MalformedBody

MAX_FILENAME = 255
MAX_HEADERS, MAX_HEADER_BYTES = 8, 8192


class Parts(Protocol):
    """Takes the parts of a body as they are parsed."""

    def start(self, name: str, filename: str | None) -> None:
        """A part begins: a file if it has a file name, be it an empty one; else a field."""

    def data(self, data: memoryview) -> None:
        """Some of the part's bytes; a view, for as long as which all that came with it is kept."""

    def end(self) -> None:
        """The part has come to its end."""


class Parser:
    """Bytes in, parts out. One body each."""

    def __init__(self, boundary: bytes, parts: Parts) -> None:
        self._parts = parts
        self._header_name = self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": parts.end,
                "on_end": self._on_end,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            MalformedBody: this is no multipart body.
        """
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise MalformedBody(f"malformed multipart body: {error}") from error

    def close(self) -> None:
        """The body is over.

        Raises:
            MalformedBody: its closing boundary is missing.
        """
        if not self._ended:
            raise MalformedBody("malformed multipart body: the closing boundary is missing")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise MalformedBody("malformed multipart body: a part has no name")
        filename = options.get(b"filename")
        self._parts.start(
            text(options[b"name"]), None if filename is None else text(filename)[:MAX_FILENAME]
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._parts.data(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self._ended = True


def text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")


def boundary_of(request: Request) -> bytes | None:
    """The boundary of a multipart request; None where the request is not one.

    Raises:
        MalformedBody: it is one, without a usable boundary.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise MalformedBody("malformed multipart body: the boundary is missing or too long")
    return boundary


async def chunks(request: Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """A request's body as it comes.

    Raises:
        BodyTooLarge: it is over `max_bytes`, by its own word or as it comes.
    """
    check_length(int(request.headers.get("content-length", 0)), max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        check_length(received, max_bytes)
        yield chunk


def check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise BodyTooLarge(f"the request body is over {max_bytes} bytes")
