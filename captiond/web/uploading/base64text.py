"""Decodes base64 that arrives in pieces.

Both alphabets are read, that of base64 and that of base64url (RFC 4648). White space is ignored, as
in MIME, and the padding may be missing. Anything else is an error, which says where it is.

pybase64 decodes six times as fast as binascii, which would take longer than all else that is done
with an image.
"""

import binascii
import re

from pybase64 import b64decode

WHITE_SPACE = b" \t\r\n\f\v"
URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
NO_LETTER = re.compile(rb"[^A-Za-z0-9+/]")
FOREIGN = re.compile(rb"[^A-Za-z0-9+/\-_=\s]")
NO_PADDING = re.compile(rb"[^=\s]")


class NotBase64Text(ValueError):
    """The text is not base64. Its character number `offset`, counted from 0, is the reason."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at character {offset}")
        self.offset = offset


class Base64Decoder:
    """Decodes one text, whose first character is at `offset` of what the client has sent."""

    def __init__(self, offset: int = 0) -> None:
        self._offset = offset
        self._rest = b""  # the last letters, fewer than four
        self._padding = 0

    def feed(self, text: bytes) -> bytes:
        """Return the bytes of the next characters.

        Raises:
            NotBase64Text
        """
        joined = self._rest + text
        whole = len(joined) & ~3
        # Padding at the end is unusual too: it has to be remembered.
        if self._padding or NO_LETTER.search(joined, max(0, whole - 2)):
            return self._feed_unusual(text)
        try:
            decoded = b64decode(joined[:whole], validate=True)
        except binascii.Error:
            return self._feed_unusual(text)
        self._rest = joined[whole:]
        self._offset += len(text)
        return decoded

    def end(self) -> bytes:
        """Return the last bytes.

        Raises:
            NotBase64Text
        """
        needed = -len(self._rest) % 4
        if needed == 3:
            raise NotBase64Text("the base64 text is cut short", self._offset)
        if self._padding > needed:
            raise NotBase64Text("the base64 text has too much padding", self._offset)
        return b64decode(self._rest + b"=" * needed, validate=True)

    def _feed_unusual(self, text: bytes) -> bytes:
        """Decode text with white space, padding, the other alphabet, or an error."""
        plain = text.translate(URL_ALPHABET, WHITE_SPACE)
        letters = plain.rstrip(b"=")
        if b"=" in letters or (self._padding and letters):
            raise self._error(text)
        joined = self._rest + letters
        whole = len(joined) & ~3
        if NO_LETTER.search(joined, whole):
            raise self._error(text)
        try:
            decoded = b64decode(joined[:whole], validate=True)
        except binascii.Error:
            raise self._error(text) from None
        self._rest = joined[whole:]
        self._padding += len(plain) - len(letters)
        self._offset += len(text)
        return decoded

    def _error(self, text: bytes) -> NotBase64Text:
        """Return the error for text that cannot be decoded."""
        if (foreign := FOREIGN.search(text)) is not None:
            return NotBase64Text("the text is not base64", self._offset + foreign.start())
        padded_at = 0 if self._padding else text.index(b"=")
        behind = NO_PADDING.search(text, padded_at)
        at = padded_at if behind is None else behind.start()
        return NotBase64Text("the base64 text goes on after its padding", self._offset + at)
