"""The XMP packet of a JPEG file: a segment APP1 (XMP specification, part 3)."""

from dataclasses import dataclass

from captiond.decoding.files.directory import EXIF_HEADER, Sliceable
from captiond.decoding.files.jpeg import APP0, APP1, APP2, SOS, WITHOUT_LENGTH, XMP_HEADER
from captiond.photofiles.embedded_words import exif_words, photoshop_words
from captiond.photofiles.image_words import OtherWords
from captiond.photofiles.metadata_errors import NoPlaceForMetadata
from captiond.photofiles.packet_place import damaged, unpadded
from captiond.photofiles.xmp_packet import PREFIXES

EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
SEVERAL_PICTURES = b"MPF\0"  # CIPA DC-007: it has the distance to further pictures in the file
PHOTOSHOP, APP13 = b"Photoshop 3.0\0", 0xED
LARGEST = 0xFFFF - 2 - len(XMP_HEADER)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment at `[begin:end]`. `body` is what follows its length."""

    marker: int
    begin: int
    end: int
    body: bytes

    def has(self, marker: int, header: bytes) -> bool:
        return self.marker == marker and self.body.startswith(header)


class JpegPacket:
    """A JPEG file as a place for XMP.

    Raises:
        NoPlaceForMetadata: the segments before the pixels cannot be followed.
    """

    def __init__(self, content: Sliceable) -> None:
        self._content = content
        self._segments = segments_of(content)
        self._own = self._first(APP1, XMP_HEADER)

    def _first(self, marker: int, header: bytes) -> Segment | None:
        return next((each for each in self._segments if each.has(marker, header)), None)

    @property
    def packet(self) -> bytes:
        """The XMP packet."""
        return self._own.body[len(XMP_HEADER) :].rstrip(b"\0") if self._own else b""

    @property
    def words(self) -> OtherWords:
        """What EXIF and IPTC data say."""
        exif, photoshop = self._first(APP1, EXIF_HEADER), self._first(APP13, PHOTOSHOP)
        words = exif_words(exif.body[len(EXIF_HEADER) :]) if exif else OtherWords()
        return words | (
            photoshop_words(photoshop.body[len(PHOTOSHOP) :]) if photoshop else OtherWords()
        )

    def with_packet(self, packet: bytes) -> bytes:
        """Return the file with another packet. A new one follows JFIF and EXIF."""
        self._check_extension()
        packet = packet if len(packet) <= LARGEST else unpadded(packet)
        if len(packet) > LARGEST:
            raise NoPlaceForMetadata("its XMP packet is full; use --sidecar xmp instead of --embed")
        body = XMP_HEADER + packet
        segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
        begin, end = self._place()
        several = self._first(APP2, SEVERAL_PICTURES)
        if several and several.begin < begin and len(segment) != end - begin:
            raise NoPlaceForMetadata(
                "it has several pictures; use --sidecar xmp instead of --embed"
            )
        return self._content[:begin] + segment + self._content[end:]

    def _place(self) -> tuple[int, int]:
        """Return which bytes the packet's segment replaces."""
        if self._own:
            return self._own.begin, self._own.end
        at = 2
        for segment in self._segments:
            if segment.marker != APP0 and not segment.has(APP1, EXIF_HEADER):
                break
            at = segment.end
        return at, at

    def _check_extension(self) -> None:
        """Refuse a file whose long packet has the fields in its second part."""
        parts = (each.body for each in self._segments if each.has(APP1, EXTENSION))
        extension = b"".join(part[len(EXTENSION) + 40 :] for part in parts)
        if any(uri.encode() in extension for uri in PREFIXES):
            raise NoPlaceForMetadata(
                "its XMP packet has a second part; use --sidecar xmp instead of --embed"
            )


def segments_of(content: Sliceable) -> list[Segment]:
    """Return the segments before the pixels.

    Raises:
        NoPlaceForMetadata: something else is between them.
    """
    segments: list[Segment] = []
    at = 2
    while True:
        begin = at
        while content[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        head = content[at : at + 4]
        if len(head) < 4 or head[0] != 0xFF or head[1] in WITHOUT_LENGTH:
            raise damaged("JPEG")
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == SOS:
            return segments
        end = at + 2 + length
        if length < 2 or end > len(content):
            raise damaged("JPEG")
        segments.append(Segment(marker, begin, end, content[at + 4 : end]))
        at = end
