"""The text of an image in a JSON document: base64, with or without the head of a data URL.

The text arrives in pieces, and as it stands in the document: with the escapes of JSON.
"""

import json
import re

from captiond.errors import MalformedBody, NotAnImage, NotBase64, UrlRefused
from captiond.web.uploading.base64text import Base64Decoder, NotBase64Text

MIN_PIECE = 4096  # characters; less is only decoded at the end, as text may arrive byte by byte
MAX_PIECE = 64 * 1024  # characters that are decoded at once
DATA_HEAD = re.compile(rb"\s*data:([^,;]{0,255})((?:;[^,;]{0,255}){0,8}),", re.IGNORECASE)
DATA = re.compile(rb"\s*data:", re.IGNORECASE)
URL = re.compile(rb"\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# A browser says application/octet-stream, or nothing, for a file whose type it does not know.
UNKNOWN_TYPES = {"", "application/octet-stream"}
# PHP escapes slashes, and MIME has line breaks. To replace these is quicker than to parse JSON.
USUAL_ESCAPES = ((b"\\/", b"/"), (b"\\r\\n", b"\r\n"), (b"\\n", b"\n"))
UNESCAPED = json.JSONDecoder(strict=False)  # line breaks within base64 are accepted as they are


class ImageText:
    """Decodes the text of one image.

    `feed` and `end` return bytes of the image. They raise an ImageError if this is no image in
    base64, and MalformedBody for an escape that JSON does not have.
    """

    def __init__(self) -> None:
        self._pending = bytearray()  # characters that are not decoded yet, with their escapes
        self._decoder: Base64Decoder | None = None  # once the head has been read

    def feed(self, text: bytes) -> bytes:
        """Take the next characters. At most MAX_PIECE of them may come at once."""
        if self._pending or len(text) < MIN_PIECE:
            self._pending += text
            if len(self._pending) < MIN_PIECE:
                return b""
            text = bytes(self._pending)
        length = complete(text)
        self._pending = bytearray(text[length:])
        return self._decode(text[:length])

    def end(self) -> bytes:
        """Take the end of the text."""
        last = self._decode(bytes(self._pending))
        assert self._decoder is not None
        try:
            return last + self._decoder.end()
        except NotBase64Text as error:
            raise not_base64(error) from None

    def _decode(self, text: bytes) -> bytes:
        """Decode characters, which still have their escapes."""
        text = unescaped(text)
        if self._decoder is None:
            start = head_length(text)
            self._decoder, text = Base64Decoder(start), text[start:]
        try:
            return self._decoder.feed(text)
        except NotBase64Text as error:
            raise not_base64(error) from None


def head_length(text: bytes) -> int:
    """Return how many characters precede the base64: 0 if the text does not begin like a URL.

    Raises:
        NotAnImage: it is a data URL of another type.
        NotBase64: it is a data URL without base64.
        UrlRefused: it is another URL.
    """
    if (head := DATA_HEAD.match(text)) is not None:
        check_data_url(head[1].decode("latin-1"), head[2].lower())
        return head.end()
    if DATA.match(text):
        raise NotBase64("the data URL has no comma before its data, or its head is too long")
    if URL.match(text):
        raise UrlRefused("URLs are never fetched; send the bytes of the image in base64")
    return 0


def check_data_url(media_type: str, parameters: bytes) -> None:
    """Return if a data URL may be an image in base64. Raises NotAnImage, NotBase64."""
    known = media_type.strip().lower()
    if not known.startswith("image/") and known not in UNKNOWN_TYPES:
        raise NotAnImage(f"the data URL has the type {media_type}, which is no type of images")
    if b";base64" not in parameters.replace(b" ", b""):
        raise NotBase64("the data URL is not in base64: ;base64 is missing before its comma")


def not_base64(error: NotBase64Text) -> NotBase64:
    """Return the error for an image whose text is not base64."""
    return NotBase64(f"{error}; send the bytes of the image in base64")


def unescaped(text: bytes) -> bytes:
    """Return characters of a JSON string without their escapes.

    Characters that are not ASCII become question marks, which base64 does not have either.

    Raises:
        MalformedBody: JSON has no such escape.
    """
    quick = text
    for escape, characters in USUAL_ESCAPES:
        if b"\\" not in quick:
            return quick
        quick = quick.replace(escape, characters)
    if b"\\" not in quick:  # so each backslash belonged to one of these escapes
        return quick
    try:
        plain: str = UNESCAPED.decode('"' + text.decode("latin-1") + '"')
    except ValueError:
        raise MalformedBody("malformed JSON body: an image has an unknown escape") from None
    return plain.encode("ascii", errors="replace")


def complete(text: bytes) -> int:
    """Return how many characters of a JSON string there are before an escape that is cut off.

    The text begins with a whole character.
    """
    at = text.rfind(b"\\", max(0, len(text) - 6))
    if at < 0:
        return len(text)
    start = at
    while start and text[start - 1] == 92:
        start -= 1
    if (at - start) % 2:  # this backslash belongs to the one before it
        return len(text)
    whole = 6 if text[at + 1 : at + 2] == b"u" else 2
    return len(text) if len(text) - at >= whole else at
