"""The words that an image file has outside of XMP: in EXIF data and in IPTC data.

Many photo programs show these only if XMP has no such field. EXIF 2.32 (CIPA DC-008), IPTC-IIM 4.2.
"""

from captiond.decoding.files.directory import Directory, Sliceable
from captiond.photofiles.image_words import OtherWords, described_by

IMAGE_DESCRIPTION = 0x010E
MOST = 1 << 16  # bytes of a text
RESOURCE, IPTC_RESOURCE = b"8BIM", 0x0404  # of Photoshop
DATA_SET, APPLICATION_RECORD, KEYWORD, CAPTION = 0x1C, 2, 25, 120


def exif_words(tiff: Sliceable) -> OtherWords:
    """Return the description in EXIF data, or in the first directory of a TIFF file."""
    if tiff[:2] not in {b"II", b"MM"}:
        return OtherWords()
    text = Directory(tiff).value(IMAGE_DESCRIPTION, MOST)
    return OtherWords(described_by(decoded(text)))


def photoshop_words(resources: bytes) -> OtherWords:
    """Return the words of the IPTC data in a block of Photoshop's resources."""
    at = 0
    while resources[at : at + 4] == RESOURCE and at + 12 <= len(resources):
        kind = int.from_bytes(resources[at + 4 : at + 6], "big")
        name = 1 + resources[at + 6]
        begin = at + 6 + name + name % 2
        size = int.from_bytes(resources[begin : begin + 4], "big")
        if kind == IPTC_RESOURCE:
            return iptc_words(resources[begin + 4 : begin + 4 + size])
        at = begin + 4 + size + size % 2
    return OtherWords()


def iptc_words(data: bytes) -> OtherWords:
    """Return caption and keywords of IPTC data."""
    caption, keywords, at = "", [], 0
    while at + 5 <= len(data) and data[at] == DATA_SET:
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        value = decoded(data[at + 5 : at + 5 + size]).strip()
        if data[at + 1 : at + 3] == bytes((APPLICATION_RECORD, KEYWORD)) and value:
            keywords.append(value)
        elif data[at + 1 : at + 3] == bytes((APPLICATION_RECORD, CAPTION)):
            caption = described_by(value)
        at += 5 + size
    return OtherWords(caption, tuple(keywords))


def decoded(text: bytes) -> str:
    """Return text that is in UTF-8, as it should be, or else in Latin-1."""
    text = text.partition(b"\0")[0]
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
