"""Reads a JSON body: its images go to the spool while they arrive, the rest becomes an object."""

import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from captiond.errors import ImageError, MalformedBody
from captiond.web.uploading.imagetext import ImageText
from captiond.web.uploading.jsonscanner import JsonScanner, Path, Place, described
from captiond.web.uploading.multipart import PartHandler

BEGINNING = 1024  # characters: two refused texts count as equal if these and their lengths are


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Stands for an image in a document: the upload at `position` of the form.

    `label` is the place of the image, as people write it.
    """

    position: int
    label: str


class ImageHandler(PartHandler, Protocol):
    """Receives the images of a body while they are read."""

    def refuse(self, error: ImageError, content: bytes) -> None:
        """Refuse the image. Only `end` follows. `content` tells it from other refused images."""


class JsonReader:
    """Parses one body, and calls an `ImageHandler` for the strings at `places`.

    `field` is the name of the field that each image is passed on as, and its place in the document
    is the name of the file. `max_document` is how many bytes there may be beside the images, and
    `max_values` how many values.
    """

    def __init__(
        self,
        places: Collection[Place],
        field: str,
        images: ImageHandler,
        *,
        max_document: int,
        max_values: int,
    ) -> None:
        self._field = field
        self._images = images
        self._paths: list[Path] = []
        self._text = ImageText()
        self._error: ImageError | None = None  # why the image is refused
        self._length, self._beginning = 0, b""  # of the text of the image
        self._scanner = JsonScanner(places, self, max_kept=max_document, max_values=max_values)
        self.document: dict[str, Any] = {}

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            MalformedBody: the body is not a JSON object.
            BodyTooLarge: there is too much beside the images.
        """
        self._scanner.feed(data)

    def close(self) -> None:
        """End the body. `document` has an `ImageReference` in place of each image from now on.

        Raises:
            MalformedBody
        """
        self.document = parsed(self._scanner.close())
        for position, path in enumerate(self._paths):
            put(self.document, path, ImageReference(position, described(path)))

    def begin(self, path: Path) -> None:
        """Begin an image."""
        self._images.begin(self._field, described(path))
        self._paths.append(path)
        self._text, self._error = ImageText(), None
        self._length, self._beginning = 0, b""

    def text(self, text: bytes) -> None:
        """Decode the next characters of an image."""
        self._length += len(text)
        self._beginning += text[: BEGINNING - len(self._beginning)]
        self._pass_on(lambda: self._text.feed(text))

    def end(self) -> None:
        """End an image."""
        self._pass_on(self._text.end)
        if self._error is not None:
            self._images.refuse(self._error, b"%d %s" % (self._length, self._beginning))
        self._images.end()

    def _pass_on(self, decode: Callable[[], bytes]) -> None:
        """Pass on the bytes of an image, unless it is refused."""
        if self._error is not None:
            return
        try:
            data = decode()
        except ImageError as error:
            self._error = type(error)(f"{described(self._paths[-1])}: {error}")
        else:
            if data:
                self._images.data(memoryview(data))


def parsed(text: bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        MalformedBody: it is not JSON as RFC 8259 has it, or not in UTF-8.
    """
    try:
        value: dict[str, Any] = json.loads(
            text.decode(), parse_constant=refuse_constant, parse_float=finite
        )
        # guard: no-half-pairs
        if b"\\ud" in text or b"\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair cannot be encoded
    except ValueError as error:
        raise MalformedBody(f"malformed JSON body: {reason(error)}") from None
    return value


def refuse_constant(name: str) -> NoReturn:
    """Refuse a number that Python writes and JSON does not have."""
    raise ValueError(f"{name} is no JSON number")


def finite(number: str) -> float:
    """Return a number. Raises ValueError if a double cannot hold it."""
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"the number {number[:40]} is too large")
    return value


def reason(error: ValueError) -> str:
    """Return what is wrong with a JSON text, for people."""
    match error:
        case UnicodeDecodeError():
            return "it is not in UTF-8"
        case UnicodeEncodeError():
            return "a string has half of a surrogate pair"
        case json.JSONDecodeError(msg=message, pos=at, doc=document):
            # Positions in the document are not those in the body, which still had its images.
            return f"{message} near {document[max(0, at - 20) : at + 20]!r}"
        case _:
            return str(error)


def put(document: Any, path: Path, value: object) -> None:
    """Put a value into a document, at a path that it has."""
    *parents, last = path
    for member in parents:
        document = document[member]
    document[last] = value
