"""Files with a gain map: a second image that says how much brighter an HDR screen shows each part.

Android and Adobe write them as JPEG files that hold another one (Ultra HDR), Apple as HEIC files
with an auxiliary image, and ISO 21496-1 as JPEG, HEIC and AVIF files (`tmap`).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from captiond.decoding.files.iso_boxes import Box, boxes, find_box
from tests.imagefiles import with_segment
from tests.pictures.generated import encoded
from tests.pictures.sample import picture

APP1, APP2 = 0xE1, 0xE2
XAP = b"http://ns.adobe.com/xap/1.0/\0"
ISO_MARK = b"urn:iso:std:iso:ts:21496:-1\0"
HDRGM = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
    b'hdrgm:Version="1.0" hdrgm:GainMapMax="2.0"/></rdf:RDF></x:xmpmeta>'
)
APPLE = b"urn:com:apple:photo:2020:aux:hdrgainmap\0"
Joined = Literal["apple", "iso"]
JOINED: tuple[Joined, ...] = ("apple", "iso")


def gain_map(width: int, height: int) -> Image.Image:
    """Return a gain map, which looks like nothing that should be captioned."""
    return Image.linear_gradient("L").rotate(90).resize((width, height))


# ---------------------------------------------------------------- JPEG


def ultra_hdr(primary: bytes, gains: bytes) -> bytes:
    """Return a JPEG with a gain map behind it, marked in all the ways that are in use."""
    second = with_segment(with_segment(gains, APP1, XAP + HDRGM), APP2, ISO_MARK + bytes(4))
    marked = with_segment(with_segment(primary, APP1, XAP + HDRGM), APP2, ISO_MARK + bytes(4))
    length = len(marked) + 2 + 2 + len(mpf(0, 0, 0))
    return with_segment(marked, APP2, mpf(length, len(second), length)) + second


def mpf(first: int, second: int, offset: int) -> bytes:
    """Return an index of two images (CIPA DC-007)."""
    entries = struct.pack(">IIIHHIIIHH", 0x030000, first, 0, 0, 0, 0, second, offset, 0, 0)
    table = struct.pack(">H", 3)
    table += struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    table += struct.pack(">HHII", 0xB001, 4, 1, 2)
    table += struct.pack(">HHII", 0xB002, 7, len(entries), 8 + 2 + 3 * 12 + 4)
    return b"MPF\0MM\0*\0\0\0\10" + table + bytes(4) + entries


# ---------------------------------------------------------------- AVIF and HEIC


@dataclass(frozen=True)
class SingleItem:
    """A file that has one image: its type, its properties, and its data."""

    kind: bytes
    properties: tuple[bytes, ...]
    data: bytes

    @classmethod
    def read(cls, content: bytes) -> "SingleItem":
        meta = found(content, b"meta", 0, len(content))
        begin = meta.begin + 4
        inner = found(content, b"iprp", begin, meta.end)
        table = found(content, b"ipco", inner.begin, inner.end)
        kind = content.index(b"infe") + 12
        data = found(content, b"mdat", 0, len(content))
        properties = tuple(content[b - 8 : e] for _, b, e in boxes(content, table.begin, table.end))
        return cls(content[kind : kind + 4], properties, content[data.begin : data.end])


def found(content: bytes, kind: bytes, at: int, end: int) -> Box:
    box = find_box(content, kind, at, end)
    assert box is not None, kind
    return box


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def with_gain_map(primary: bytes, gains: bytes, joined: Joined) -> bytes:
    """Return a HEIC or AVIF file with the images of two such files. The first one is the picture.

    The properties of the gain map come first. With `iso`, a derived image says that both together
    are HDR.
    """
    one, two = SingleItem.read(primary), SingleItem.read(gains)
    hdr = box(b"colr", b"nclx", struct.pack(">3HB", 12, 16, 0, 0x80))
    further = (full(b"auxC", APPLE),) if joined == "apple" else (hdr,)
    size = next(each for each in one.properties if each[4:8] == b"ispe")
    properties = (*two.properties, *further, *one.properties, size)
    counts = len(two.properties), len(further), len(one.properties)
    second = list(range(1, 1 + counts[0] + (counts[1] if joined == "apple" else 0)))
    first = list(range(1 + counts[0] + counts[1], 1 + sum(counts)))
    owners = {1: first, 2: second}
    datas = [one.data, two.data]
    entries = [item_entry(1, one.kind), item_entry(2, two.kind, hidden=True)]
    if joined == "iso":
        owners[3] = [len(properties), 1 + counts[0]]
        datas.append(bytes(62))
        entries.append(item_entry(3, b"tmap"))
        refs = box(b"dimg", struct.pack(">4H", 3, 2, 1, 2))
        groups = box(b"grpl", full(b"altr", struct.pack(">4I", 4, 2, 3, 1)))
    else:
        refs, groups = box(b"auxl", struct.pack(">3H", 2, 1, 1)), b""
    brand = b"tmap" if joined == "iso" else b"miaf"
    tables = [
        full(b"hdlr", bytes(4), b"pict", bytes(13)),
        full(b"pitm", struct.pack(">H", 1)),
        full(b"iinf", struct.pack(">H", len(entries)), *entries),
        full(b"iref", refs),
        box(b"iprp", box(b"ipco", *properties), associations(marked(owners, properties))),
        groups,
    ]
    head = box(b"ftyp", primary[8:12], bytes(4), primary[8:12], b"mif1", b"miaf", brand)
    empty = full(b"meta", *tables, locations(datas, 0))
    meta = full(b"meta", *tables, locations(datas, len(head) + len(empty) + 8))
    return head + meta + box(b"mdat", *datas)


def item_entry(number: int, kind: bytes, *, hidden: bool = False) -> bytes:
    return full(b"infe", struct.pack(">HH4sx", number, 0, kind), version=2, flags=int(hidden))


def marked(owners: dict[int, list[int]], properties: Sequence[bytes]) -> dict[int, list[int]]:
    """Return the numbers of properties with a mark on those that a reader must understand."""
    return {
        owner: [
            number | 0x80 * (properties[number - 1][4:8] in {b"av1C", b"hvcC"})
            for number in numbers
        ]
        for owner, numbers in owners.items()
    }


def associations(owners: dict[int, list[int]]) -> bytes:
    each = (
        struct.pack(">HB", owner, len(numbers)) + bytes(numbers)
        for owner, numbers in owners.items()
    )
    return full(b"ipma", struct.pack(">I", len(owners)), *each)


def locations(datas: list[bytes], begin: int) -> bytes:
    body = struct.pack(">HH", 0x4400, len(datas))
    for number, data in enumerate(datas, start=1):
        body += struct.pack(">HHHII", number, 0, 1, begin, len(data))
        begin += len(data)
    return full(b"iloc", body)


# ---------------------------------------------------------------- files


def jpegs_with_gain_maps() -> dict[str, tuple[bytes, bytes]]:
    """Return JPEG files with a gain map, by their names, and the same pictures without it."""
    files = {}
    for name, options in (("baseline", {}), ("progressive", {"progressive": True})):
        plain = encoded(picture(), "JPEG", quality=92, **options)
        for side in (4, 1):
            size = picture().width // side, picture().height // side
            gains = encoded(gain_map(*size), "JPEG", quality=80)
            files[f"{name} 1:{side}"] = ultra_hdr(plain, gains), plain
    larger = encoded(gain_map(picture().width * 2, picture().height * 3), "JPEG")
    files["a larger gain map"] = ultra_hdr(plain, larger), plain
    return files
