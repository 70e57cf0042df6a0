"""The XMP packet of a WebP file: a chunk of its own, which a flag announces (RFC 9649)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from captiond.decoding.files.directory import Sliceable
from captiond.decoding.files.webp import HAS_ALPHA, LOSSLESS, LOSSY, frame_size, number, packed
from captiond.errors import CorruptImage
from captiond.photofiles.embedded_words import exif_words
from captiond.photofiles.image_words import OtherWords
from captiond.photofiles.packet_place import damaged

HEADER, XMP, EXIF = b"VP8X", b"XMP ", b"EXIF"
HAS_XMP = 0x04
PICTURE_HEADER = 16
ALPHA_BIT = 28  # of the header of a lossless picture, behind its signature


@dataclass(frozen=True, slots=True)
class RiffChunk:
    """A chunk at `[begin:end]`, with its padding. Of pixels, `data` are the first bytes."""

    kind: bytes
    begin: int
    end: int
    data: bytes


class WebpPacket:
    """A WebP file as a place for XMP.

    Raises:
        NoPlaceForMetadata: its chunks cannot be followed to the end.
    """

    def __init__(self, content: Sliceable) -> None:
        self._content = content
        self._end = 8 + number(content[4:8])
        self._chunks = list(riff_chunks(content, self._end))
        if not self._chunks:
            raise damaged("WebP")
        self._own = self._first(XMP)

    def _first(self, kind: bytes) -> RiffChunk | None:
        return next((each for each in self._chunks if each.kind == kind), None)

    @property
    def packet(self) -> bytes:
        """The XMP packet."""
        return self._own.data.rstrip(b"\0") if self._own else b""

    @property
    def words(self) -> OtherWords:
        """What EXIF data say."""
        exif = self._first(EXIF)
        return exif_words(exif.data.removeprefix(b"Exif\0\0")) if exif else OtherWords()

    def with_packet(self, packet: bytes) -> bytes:
        """Return the file with another packet. A new one follows all other chunks."""
        begin, end = (self._own.begin, self._own.end) if self._own else (self._end, self._end)
        body = self._announced(self._content[12:begin]) + packed(XMP, packet)
        body += self._content[end : self._end]
        size = struct.pack("<I", 4 + len(body))
        return b"RIFF" + size + b"WEBP" + body + self._content[self._end :]

    def _announced(self, chunks: bytes) -> bytes:
        """Return the first chunks with a header that announces XMP."""
        first = self._chunks[0]
        if first.kind != HEADER:
            return self._new_header(first) + chunks
        flags = bytes((chunks[8] | HAS_XMP,))
        return chunks[:8] + flags + chunks[9:]

    def _new_header(self, picture: RiffChunk) -> bytes:
        """Return the header of a file that has a picture only."""
        try:
            width, height = frame_size({picture.kind: picture.data})
        except CorruptImage as error:
            raise damaged("WebP") from error
        if not (width and height):
            raise damaged("WebP")
        lossless = picture.kind == LOSSLESS
        alpha = lossless and number(picture.data[1:5]) >> ALPHA_BIT & 1
        flags = HAS_XMP | (HAS_ALPHA if alpha else 0)
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return packed(HEADER, bytes((flags, 0, 0, 0)) + size)


def riff_chunks(content: Sliceable, whole: int) -> Iterator[RiffChunk]:
    """Yield the chunks.

    Raises:
        NoPlaceForMetadata: one is cut off, or the file begins with an unknown one.
    """
    at = 12
    if content[at : at + 4] not in {HEADER, LOSSY, LOSSLESS}:
        raise damaged("WebP")
    while at < whole:
        size = number(content[at + 4 : at + 8])
        end = at + 8 + size + size % 2
        if end > min(whole, len(content)) or at + 8 > len(content):
            raise damaged("WebP")
        kind = content[at : at + 4]
        needed = size if kind in {XMP, EXIF} else min(size, PICTURE_HEADER)
        yield RiffChunk(kind, at, end, content[at + 8 : at + 8 + needed])
        at = end
