"""Reads a multipart/form-data body with python-multipart, chunk by chunk.

python-multipart is slow where a body nearly contains its boundary, and where a header has thousands
of parameters. What a body may have of both is bounded here.
"""

import re
from collections.abc import Mapping
from typing import Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from captiond.errors import MalformedBody
from captiond.web.uploading.partnames import UTF_8, filename_of, text

MAX_FILENAME = 255
# A file name of 10,000 characters is cut, not refused. Each may have four bytes.
MAX_HEADERS, MAX_HEADER_BYTES = 8, 48 * 1024
MAX_HEAD_BYTES = 2 * MAX_HEADER_BYTES  # of all headers of a part
MAX_PARAMETERS = 64  # of one header
MAX_PREAMBLE_BYTES = 16 * 1024
MAX_BOUNDARY_SHOWN = 70  # what RFC 2046 allows
LINE_END = b"\r\n"
MAX_PADDING = 64  # spaces and tabs behind the first boundary
MAX_BOUNDARIES = 12_000  # of all parts, and of content that resembles a boundary


class PartHandler(Protocol):
    """Receives the parts of a body while they are read."""

    def begin(self, name: str, filename: str | None) -> None:
        """Begin a part. It is a file if it has a file name, even an empty one, else a field."""

    def data(self, data: memoryview) -> None:
        """Take some bytes of the part.

        They are a view into a chunk of the body. It keeps the chunk in memory while it is
        referenced.
        """

    def end(self) -> None:
        """End the part."""


class MultipartReader:
    """Parses one body, and calls a `PartHandler` for its parts. Its names are in `charset`."""

    def __init__(self, boundary: bytes, parts: PartHandler, charset: str = UTF_8) -> None:
        self._parts = parts
        self._charset = charset
        self._header_name = self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0  # of the headers of this part
        self._ended = False
        self._start = OpeningBoundary(boundary)
        self._begun = False  # the first boundary was there
        self._delimiter = b"\r\n--" + boundary
        self._boundaries = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
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
        """Parse the next bytes of the body.

        Raises:
            MalformedBody: the body is not a multipart body.
        """
        if not self._begun:
            data = self._start.feed(data)
            self._begun = bool(data)
        if self._ended or not data:
            return  # after the closing boundary comes the epilogue, which is ignored
        # guard: bounded-boundaries
        self._count_boundaries(data)
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise MalformedBody(f"malformed multipart body: {error}") from error

    def close(self) -> None:
        """End the body. An empty body is a form without parts.

        Raises:
            MalformedBody: a boundary is missing.
        """
        if not self._begun:
            self._start.close()
        elif not self._ended:
            raise MalformedBody("malformed multipart body: the closing boundary is missing")

    def _count_boundaries(self, data: bytes) -> None:
        self._boundaries += data.count(self._delimiter)
        if self._boundaries > MAX_BOUNDARIES:
            raise MalformedBody(f"malformed multipart body: more than {MAX_BOUNDARIES} boundaries")

    def _on_part_begin(self) -> None:
        self._headers.clear()
        self._head_bytes = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._head_bytes += len(self._header_name) + len(self._header_value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise MalformedBody("malformed multipart body: the headers of a part are too long")
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_parameters(disposition)
        if b"name" not in options:
            raise MalformedBody("malformed multipart body: a part has no name")
        filename = filename_of(disposition, options, self._charset)
        self._parts.begin(
            text(options[b"name"], self._charset),
            None if filename is None else filename[:MAX_FILENAME],
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._parts.data(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self._ended = True


class OpeningBoundary:
    """Finds the first boundary of a body. What precedes it, the preamble, is ignored (RFC 2046).

    Of what was searched already, no more is searched again than a boundary can be long: a body may
    arrive byte by byte.
    """

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary
        padding = rb"[ \t]{0,%d}" % MAX_PADDING
        self._line = re.compile(rb"\r\n--" + re.escape(boundary) + padding + rb"(\r\n|--)")
        self._longest = len(boundary) + MAX_PADDING + len(b"\r\n--\r\n")
        self._received = LINE_END  # the body begins with a line

    def feed(self, data: bytes) -> bytes:
        """Return what has been received from the first boundary on, b"" until there is one.

        Raises:
            MalformedBody: there is none within the bytes that a preamble may have.
        """
        # guard: search-what-is-new
        start = max(0, len(self._received) - self._longest)
        self._received += data
        if (found := self._line.search(self._received, start)) is not None:
            return b"--" + self._boundary + self._received[found.start(1) :]
        if len(self._received) > MAX_PREAMBLE_BYTES:
            raise self._missing()
        return b""

    def close(self) -> None:
        """Raise MalformedBody if the body has ended without a boundary, unless it is empty."""
        if self._received != LINE_END:
            raise self._missing()

    def _missing(self) -> MalformedBody:
        """Return the error for a body whose first boundary is missing."""
        if self._received.startswith(LINE_END + b"--" + self._boundary + b"\n"):
            reason = "its lines must end with CR LF, not with LF alone"
        else:
            boundary = text(self._boundary[:MAX_BOUNDARY_SHOWN])
            reason = (
                f"no line of it is '--{boundary}', although its Content-Type says so; "
                "let your HTTP library set this header"
            )
        return MalformedBody(f"malformed multipart body: {reason}")


def parse_parameters(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the value of a header and its parameters.

    Raises:
        MalformedBody: there are too many parameters.
    """
    # guard: bounded-parameters
    if header.count(b";") > MAX_PARAMETERS:
        raise MalformedBody(f"a header has more than {MAX_PARAMETERS} parameters")
    return parse_options_header(header)


def boundary_of(parameters: Mapping[bytes, bytes]) -> bytes:
    """Return the boundary that the Content-Type of a multipart request has among its parameters.

    Raises:
        MalformedBody: there is no usable one.
    """
    boundary = parameters.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise MalformedBody(
            "malformed multipart body: the boundary in the Content-Type is missing or too long; "
            "let your HTTP library set this header"
        )
    return boundary
