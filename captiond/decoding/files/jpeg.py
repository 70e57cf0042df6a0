"""JPEG files (ITU-T T.81), of which only the first picture is read.

Further pictures may follow it: frames of an MPO, or a gain map, which says how much brighter an HDR
screen shows each part (Ultra HDR, ISO 21496-1). The file is cut behind the first picture.
"""

import re
from dataclasses import dataclass, field
from functools import partial

from captiond.decoding.files.directory import EXIF_HEADER, orientation_of
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage, ImageTooSlow, ImageTypeRefused

MAX_SEGMENTS = 20_000  # before the pixels; a file of 20 MB needs 320 for its metadata
MAX_SCANS = 50_000
SCAN_BLOCK_SECONDS = 4e-9  # a further scan, for each block of 8 x 8 samples
SCAN_SECONDS = 2e-6
SOI, EOI, SOS, DHT, DQT, DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
DAC, DNL = 0xCC, 0xDC
JPEG_LS = 0xF7
BITS = 8  # of a sample
FRAMES = frozenset({*range(0xC0, 0xD0), JPEG_LS}) - {DHT, 0xC8, DAC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
TABLES = {DHT, DQT, DRI, DAC, DNL}
WITHOUT_LENGTH = {0x01, SOI, *range(0xD0, 0xD8)}
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # one that ends the data of a scan
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
ICC_HEADER = b"ICC_PROFILE\0"
# For a file without an end marker: samples that are missing get other values with each of these.
ENDS = [bytes(64) + b"\xff\xd9", b"\x55" * 64 + b"\xff\xd9"]
JFIF = bytes.fromhex("ffe000104a46494600010100000100010000")  # a JFIF header without resolution


@dataclass
class Segments:
    """What the segments before the first scan hold."""

    kept: list[bytes] = field(default_factory=list)
    frame: bytes = b""
    marker: int = 0
    exif: bytes = b""
    xmp: bytes = b""
    profile: list[bytes] = field(default_factory=list)

    def add(self, marker: int, body: bytes, whole: bytes) -> None:
        """Keep the segment if the pixels need it, and what captiond needs of metadata."""
        if marker in TABLES:
            self.kept.append(whole)
        elif marker in FRAMES:
            self.kept.append(whole)
            self.frame, self.marker = body, marker
        elif marker == APP1 and body.startswith(EXIF_HEADER):
            self.exif = self.exif or body
        elif marker == APP1 and body.startswith(XMP_HEADER):
            self.xmp = self.xmp or body
        elif marker == APP2 and body.startswith(ICC_HEADER):
            self.profile.append(body[len(ICC_HEADER) :])
        # These two say whether the samples are YCbCr. The rest of them is metadata.
        elif marker == APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            self.kept.append(JFIF)
        elif marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            self.kept.append(b"\xff\xee\0\x0e" + body[:12])


def plain_jpeg(content: bytes) -> PlainFile:
    """Return a JPEG without metadata.

    Raises:
        CorruptImage: it has no frame header, or no scan.
        ImageTooSlow: it has too many segments.
        ImageTypeRefused: it is of a kind that Pillow does not read.
    """
    segments = Segments()
    begin = read_segments(content, segments)
    if len(segments.frame) < 6:
        raise CorruptImage("the image has no frame header")
    check_kind(segments)
    height, width = (int.from_bytes(segments.frame[at : at + 2], "big") for at in (1, 3))
    components = segments.frame[5]
    scans, end = scans_and_end(content, begin)
    ends = [b""] if end else ENDS
    buffered = scans > 1 or segments.marker in PROGRESSIVE
    is_sequential = scans == 1 and not buffered and len(ends) == 1
    blocks = width * height * components / 64
    plain = b"".join((b"\xff\xd8", *segments.kept, content[begin : end or len(content)]))
    return PlainFile(
        content=ended(plain, ends[0]),
        width=width,
        height=height,
        pixel_bytes=(1 if components == 1 else 4) + (2 * components if buffered else 0),
        parts=f"{scans} scans",
        parts_seconds=(scans - 1) * (SCAN_SECONDS + SCAN_BLOCK_SECONDS * blocks),
        orientation=orientation_of(segments.exif, segments.xmp),
        profile=joined_profile(segments.profile),
        other_end=ended(plain, ends[-1]) if len(ends) > 1 else b"",
        ends=partial(with_other_ends, plain) if is_sequential else None,
    )


def check_kind(segments: Segments) -> None:
    """Refuse a file that Pillow would call damaged, because it reads no files of its kind."""
    bits = segments.frame[0]
    if segments.marker == JPEG_LS or bits != BITS:
        kind = "a JPEG-LS image" if segments.marker == JPEG_LS else f"a JPEG image of {bits} bits"
        raise ImageTypeRefused(f"this is {kind}, which captiond does not read; convert it to PNG")


def ended(plain: bytes, end: bytes) -> bytes:
    """Return a JPEG with an end. A marker that is cut off is removed first."""
    return plain.removesuffix(b"\xff") + end if end else plain


def with_other_ends(plain: bytes) -> tuple[bytes, bytes]:
    """Return the file with two other ends instead of its own one."""
    scan = plain.removesuffix(b"\xff\xd9")
    return ended(scan, ENDS[0]), ended(scan, ENDS[1])


def read_segments(content: bytes, segments: Segments) -> int:
    """Read the segments before the first scan. Return where that scan begins."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = content.find(b"\xff", at)
        while at >= 0 and content[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at < 0 or at + 2 > len(content) or content[at + 1] == EOI:
            raise CorruptImage("the image has no scan")
        marker = content[at + 1]
        if marker == SOS:
            return at
        if marker == 0 or marker in WITHOUT_LENGTH:
            at += 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        segments.add(marker, content[at + 4 : end], content[at:end])
        at = max(end, at + 4)
    raise ImageTooSlow(f"the file has more than {MAX_SEGMENTS} segments before its pixels")


def scans_and_end(content: bytes, begin: int) -> tuple[int, int]:
    """Return the number of scans of the first picture, at least 1, and where it ends.

    That is behind its end marker, or 0 if it has none. If the markers of a damaged file do not lead
    to the end, the last end marker counts.

    Raises:
        ImageTooSlow: there are too many scans.
    """
    scans, at = 0, begin
    while found := MARKER.search(content, at):
        marker, at = content[found.end() - 1], found.end()
        if marker == EOI:
            return max(1, scans), at
        if marker == SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageTooSlow(f"the file has more than {MAX_SCANS} scans")
        if marker not in WITHOUT_LENGTH:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    last = content.rfind(b"\xff\xd9", begin)
    return max(1, scans), last + 2 if last >= 0 else 0


def joined_profile(parts: list[bytes]) -> bytes:
    """Join the parts of an ICC profile, each of which begins with its number and their count."""
    if not parts or any(len(part) < 2 for part in parts) or parts[0][1] != len(parts):
        return b""
    return b"".join(part[2:] for part in sorted(parts, key=lambda part: part[0]))
