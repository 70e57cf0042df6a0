"""Finds the strings at certain places of a JSON object that arrives in chunks.

The object is not parsed here: its structure is only followed to know where each string is. All but
the wanted strings is kept for a parser, which also finds what is wrong with it.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from captiond.errors import BodyTooLarge, MalformedBody
from captiond.notation.sizes import shown_size

MAX_DEPTH = 64
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK, WHITE_SPACE = b"\xef\xbb\xbf", b" \t\r\n"
STRUCTURE = re.compile(rb'["{}\[\],:]')
BACKSLASH = ord("\\")
MAX_TEXT = 64 * 1024  # characters of a string that are passed on at once
EACH: Final = 0  # in a place: any position in an array

# The keys and positions that lead from the root of the document to a value.
Path = tuple[str | int, ...]
Place = Path  # the same, with EACH for positions


class StringHandler(Protocol):
    """Receives the strings at the wanted places."""

    def begin(self, path: Path) -> None:
        """Begin a string."""

    def text(self, text: bytes) -> None:
        """Take the next characters of the string. They still have the escapes of JSON."""

    def end(self) -> None:
        """End the string."""


@dataclass(slots=True)
class Container:
    """An object or an array that is open, and its current member.

    The member is a position in an array, or a key of an object. It is None before a key.
    """

    closing: bytes
    member: str | int | None
    keys: set[str] = field(default_factory=set)

    @property
    def expects_key(self) -> bool:
        return self.member is None

    def next(self) -> None:
        """Go on to the next member."""
        self.member = self.member + 1 if isinstance(self.member, int) else None


class JsonScanner:
    """Scans one document.

    The strings at `places` go to `strings`, and null takes their place in what is kept. At most
    `max_kept` bytes are kept, with at most `max_values` values in them.
    """

    def __init__(
        self,
        places: Collection[Place],
        strings: StringHandler,
        *,
        max_kept: int,
        max_values: int,
    ) -> None:
        self._places = frozenset(places)
        self._strings = strings
        self._max_kept = max_kept
        self._max_values = max_values
        self._values = 0
        self._opening: bytes | None = b""  # what precedes the object; None once it has begun
        self._kept = bytearray()
        self._containers: list[Container] = []
        self._in_string = self._wanted = self._escaped = False
        self._string_start = 0  # where the string begins in what is kept

    def feed(self, data: bytes) -> None:
        """Scan the next bytes.

        Raises:
            MalformedBody: this is no JSON object.
            BodyTooLarge: more than `max_kept` bytes or `max_values` values are to be kept.
        """
        if self._opening is not None:
            data = self._open(self._opening + data)
        position = 0
        while position < len(data):
            scan = self._scan_string if self._in_string else self._scan_structure
            position = scan(data, position)

    def close(self) -> bytes:
        """End the document, and return what was kept.

        Raises:
            MalformedBody: the document is empty or cut short.
        """
        if self._opening is not None or self._in_string or self._containers:
            what = "empty" if self._opening is not None else "cut short"
            raise MalformedBody(f"malformed JSON body: it is {what}")
        return bytes(self._kept)

    def _open(self, opening: bytes) -> bytes:
        """Return the first bytes from the object's brace on, b"" until it is there."""
        opening = opening.lstrip(WHITE_SPACE)
        if opening and BYTE_ORDER_MARK.startswith(opening):  # it may be cut off
            opening, rest = opening, b""
        else:
            opening, rest = b"", opening.removeprefix(BYTE_ORDER_MARK).lstrip(WHITE_SPACE)
        if rest.startswith(UTF_16_MARKS) or b"\0" in rest[:2]:
            raise MalformedBody("malformed JSON body: it is not in UTF-8")
        if rest and not rest.startswith(b"{"):
            raise MalformedBody("malformed JSON body: it must be an object, which begins with {")
        self._opening = None if rest else opening
        return rest

    def _scan_structure(self, data: bytes, start: int) -> int:
        """Scan up to the next token, and return the position after it."""
        found = STRUCTURE.search(data, start)
        end = len(data) if found is None else found.end()
        token = b"" if found is None else found[0]
        if token == b'"':
            self._keep(data[start : end - 1])
            self._begin_string()
            return end
        self._keep(data[start:end])
        match token:
            case b"{":
                self._push(Container(b"}", None))
            case b"[":
                self._push(Container(b"]", 0))
            case b"}" | b"]":
                self._pop(token)
            case b",":
                self._innermost().next()
                self._count_value()
        return end

    def _scan_string(self, data: bytes, start: int) -> int:
        """Scan up to the end of a string, and return the position after it."""
        end, self._escaped = closing_quote(data, start, escaped=self._escaped)
        stop = len(data) if end is None else end
        if not self._wanted:
            self._keep(data[start : stop + 1])
        else:
            for at in range(start, stop, MAX_TEXT):
                self._strings.text(data[at : min(stop, at + MAX_TEXT)])
        if end is not None:
            self._end_string()
        return stop + 1

    def _begin_string(self) -> None:
        container = self._innermost()
        path = tuple(each.member for each in self._containers if each.member is not None)
        place = tuple(EACH if isinstance(member, int) else member for member in path)
        self._in_string = True
        self._wanted = not container.expects_key and place in self._places
        self._string_start = len(self._kept)
        if self._wanted:
            self._keep(b"null")
            self._strings.begin(path)
        else:
            self._keep(b'"')

    def _end_string(self) -> None:
        container = self._innermost()
        self._in_string = False
        if self._wanted:
            self._strings.end()
        elif container.expects_key:
            container.member = key = self._key(bytes(self._kept[self._string_start :]))
            # guard: repeated-keys
            if key in container.keys:
                raise MalformedBody(f"malformed JSON body: the key {shortened(key)} is repeated")
            container.keys.add(key)

    def _key(self, text: bytes) -> str:
        """Return a key. Raises MalformedBody."""
        try:
            key: str = json.loads(text.decode())
        except ValueError:
            raise MalformedBody(f"malformed JSON body: a key is not valid: {text[:60]!r}") from None
        return key

    def _keep(self, data: bytes) -> None:
        self._kept += data
        # guard: bounded-document
        if len(self._kept) > self._max_kept:
            raise BodyTooLarge(self._too_much())

    def _count_value(self) -> None:
        """Count a value: an object, an array, or the next member of one.

        An empty array takes three bytes in the body and sixty in memory. To check each takes time.
        """
        self._values += 1
        # guard: bounded-values
        if self._values > self._max_values:
            raise BodyTooLarge(f"the JSON body has more than {self._max_values} values")

    def _too_much(self) -> str:
        members = [each.member for each in self._containers if each.member is not None]
        here = f"; {shortened(described(members))} is too long" if self._in_string else ""
        places = " or ".join(sorted(map(described, self._places)))
        return (
            f"the request has more than {shown_size(self._max_kept)} beside its images, which "
            f"belong in {places}{here}"
        )

    def _push(self, container: Container) -> None:
        # guard: bounded-depth
        if len(self._containers) == MAX_DEPTH:
            raise MalformedBody(f"malformed JSON body: it is nested more than {MAX_DEPTH} deep")
        if not self._containers and len(self._kept) > 1:
            raise MalformedBody("malformed JSON body: there is more after the object")
        self._containers.append(container)
        self._count_value()

    def _pop(self, token: bytes) -> None:
        if self._innermost().closing != token:
            raise MalformedBody("malformed JSON body: its brackets do not match")
        self._containers.pop()

    def _innermost(self) -> Container:
        if not self._containers:
            raise MalformedBody("malformed JSON body: there is more after the object")
        return self._containers[-1]


def closing_quote(data: bytes, start: int, *, escaped: bool) -> tuple[int | None, bool]:
    """Return where a string ends, and whether the next byte is escaped if it has not ended yet.

    `escaped` says whether the byte at `start` is escaped.
    """
    start += escaped
    while (quote := data.find(b'"', start)) >= 0:
        if not ends_with_escape(data, start, quote):
            return quote, False
        start = quote + 1
    return None, ends_with_escape(data, start, len(data))


def ends_with_escape(data: bytes, start: int, end: int) -> bool:
    """Return whether an odd number of backslashes precedes `end`."""
    at = end
    while at > start and data[at - 1] == BACKSLASH:
        at -= 1
    return (end - at) % 2 == 1


def described(path: Sequence[str | int]) -> str:
    """Return a path as people write it: `images[3].image`."""
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)[1:]


def shortened(text: str) -> str:
    """Return a text that a client sent, at most 60 characters of it, in quotes."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
