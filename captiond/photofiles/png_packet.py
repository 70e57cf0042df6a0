"""The XMP packet of a PNG file: a chunk iTXt (XMP specification, part 3)."""

from collections.abc import Iterator
from dataclasses import dataclass

from captiond.decoding.files.directory import Sliceable
from captiond.decoding.files.png import MAX_TEXT, SIGNATURE, XMP_KEYWORD, chunk, inflated
from captiond.photofiles.embedded_words import decoded, exif_words
from captiond.photofiles.image_words import OtherWords, described_by
from captiond.photofiles.metadata_errors import MetadataUnreadable
from captiond.photofiles.packet_place import damaged

TEXT, LATIN_TEXT, EXIF = b"iTXt", b"tEXt", b"eXIf"
PLAIN = XMP_KEYWORD + b"\0\0\0\0"  # not compressed, no language, no translated keyword
DESCRIPTION_KEYWORD = b"Description\0"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk at `[begin:end]`. `data` is there if the chunk may have words."""

    kind: bytes
    begin: int
    end: int
    data: bytes


class PngPacket:
    """A PNG file as a place for XMP.

    Raises:
        NoPlaceForMetadata: its chunks cannot be followed to the end.
    """

    def __init__(self, content: Sliceable) -> None:
        self._content = content
        self._chunks = list(png_chunks(content))
        self._own = next(
            (c for c in self._chunks if c.kind == TEXT and c.data.startswith(XMP_KEYWORD)), None
        )

    @property
    def packet(self) -> bytes:
        """The XMP packet."""
        return text_of(self._own.data[len(XMP_KEYWORD) :]) if self._own else b""

    @property
    def words(self) -> OtherWords:
        """What EXIF data and the keyword Description say."""
        words = OtherWords()
        for each in self._chunks:
            if each.kind == EXIF:
                words |= exif_words(each.data)
            elif each.kind == LATIN_TEXT and each.data.startswith(DESCRIPTION_KEYWORD):
                text = each.data[len(DESCRIPTION_KEYWORD) :]
                words |= OtherWords(described_by(decoded(text)))
        return words

    def with_packet(self, packet: bytes) -> bytes:
        """Return the file with another packet. A new one follows the header."""
        header = self._chunks[0]
        begin, end = (self._own.begin, self._own.end) if self._own else (header.end, header.end)
        return self._content[:begin] + chunk(TEXT, PLAIN + packet) + self._content[end:]


def text_of(data: bytes) -> bytes:
    """Return the text of a chunk iTXt. `data` follow the keyword.

    Raises:
        MetadataUnreadable: it is compressed, and damaged or too long.
    """
    compressed = data[:1] == b"\1"
    _language, _, rest = data[2:].partition(b"\0")
    _keyword, _, text = rest.partition(b"\0")
    if not compressed:
        return text
    if not (unpacked := inflated(text)):  # what is there must not be taken for nothing
        raise MetadataUnreadable(f"its compressed XMP is damaged, or longer than {MAX_TEXT} bytes")
    return unpacked


def png_chunks(content: Sliceable) -> Iterator[Chunk]:
    """Yield the chunks, up to the last one.

    Raises:
        NoPlaceForMetadata: a chunk is cut off, or the last one is missing.
    """
    at = len(SIGNATURE)
    while at + 12 <= len(content):
        head = content[at : at + 8]
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = at + 12 + size
        if end > len(content):
            break
        data = content[at + 8 : at + 8 + size] if kind in {TEXT, LATIN_TEXT, EXIF} else b""
        yield Chunk(kind, at, end, data)
        if kind == b"IEND":
            return
        at = end
    raise damaged("PNG")
