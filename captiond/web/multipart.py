"""A multipart/form-data body as a stream of events, parsed by python-multipart.

Nothing is kept here: file data goes through as it comes.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from captiond.errors import BodyTooLarge, MalformedBody

MAX_FILENAME = 255
MAX_HEADERS, MAX_HEADER_BYTES = 8, 8192


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins: a file if it has a file name, be it an empty one; else a field."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    pass


Event = PartStart | PartData | PartEnd


class EventParser:
    """Bytes in, events out. One body each."""

    def __init__(self, boundary: bytes) -> None:
        self._events: list[Event] = []
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
                "on_part_end": lambda: self._events.append(PartEnd()),
                "on_end": self._on_end,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> list[Event]:
        """The events in the next bytes of the body.

        Raises:
            MalformedBody: this is no multipart body.
        """
        self._events = []
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise MalformedBody(f"malformed multipart body: {error}") from error
        return self._events

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
        self._events.append(
            PartStart(
                name=text(options[b"name"]),
                filename=None if filename is None else text(filename)[:MAX_FILENAME],
            )
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

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


async def events(
    request: Request, boundary: bytes, *, max_bytes: int
) -> AsyncIterator[list[Event]]:
    """The events of a request's body, as many at a time as came with one piece of it.

    Raises:
        BodyTooLarge: the body is over `max_bytes`, by its own word or as it comes.
        MalformedBody: it cannot be parsed.
    """
    check_length(int(request.headers.get("content-length", 0)), max_bytes)
    parser = EventParser(boundary)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        check_length(received, max_bytes)
        yield parser.feed(chunk)
    parser.close()


def check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise BodyTooLarge(f"the request body is over {max_bytes} bytes")
