"""The codestream of a JPEG 2000 file (ITU-T T.800, Annex A): its components and their depths.

Pillow reduces components to 8 bits and makes two mistakes: white of less than 8 bits is not 255,
and the brightest values of more than 8 bits become black, because they are rounded up to 256. So
the stream is changed to say another depth, whose values are mapped to those that are meant.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from captiond.errors import CorruptImage, ImageTooSlow, ImageTypeRefused

START = b"\xff\x4f\xff\x51"
FIRST_COMPONENT, COMPONENT_BYTES = 42, 3
SIGNED, DEPTH = 0x80, 0x7F
CODING, COMPONENT_CODING, TILE_PART, DATA, END = 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
TRANSFORM = 9  # where a coding segment names the wavelets, behind its length
COMPONENT_TRANSFORM = 6  # the same in the segment of one component
MAX_SEGMENTS = 100_000
MOST_COMPONENTS, MOST_DEPTH, BYTE = 4, 16, 8
Levels = tuple[int, ...]
UNCHANGED: Levels = tuple(range(256))


@dataclass(frozen=True, slots=True)
class Component:
    """The depth of a component in bits, and the distances of its samples."""

    depth: int
    across: int
    down: int


@dataclass(frozen=True, slots=True)
class StreamSize:
    """What the SIZ segment of a codestream says."""

    width: int
    height: int
    tiles: int
    components: tuple[Component, ...]

    @property
    def depth(self) -> int:
        return max(component.depth for component in self.components)

    @property
    def is_deep_grey(self) -> bool:
        """Return whether Pillow has a mode with enough bits."""
        return len(self.components) == 1 and self.depth > BYTE


def stream_size(stream: bytes) -> StreamSize:
    """Return the size of a codestream.

    Raises:
        CorruptImage: it has none.
    """
    if not stream.startswith(START) or len(stream) < FIRST_COMPONENT + COMPONENT_BYTES:
        raise CorruptImage("the image has no codestream")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, number = struct.unpack(
        ">8IH", stream[8:FIRST_COMPONENT]
    )
    width, height = right - left, bottom - top
    if min(width, height, tile_width, tile_height, number) < 1:
        raise CorruptImage("the image has no size")
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    raw = stream[FIRST_COMPONENT : FIRST_COMPONENT + COMPONENT_BYTES * number]
    whole = raw[: len(raw) // COMPONENT_BYTES * COMPONENT_BYTES]
    components = tuple(
        Component(1 + (depth & DEPTH), dx, dy) for depth, dx, dy in struct.iter_unpack("3B", whole)
    )
    return StreamSize(width, height, across * down, components)


def check_components(size: StreamSize) -> None:
    """Raise ImageTypeRefused if Pillow cannot read components of these kinds."""
    problem = ""
    if len(size.components) > MOST_COMPONENTS:
        problem = "of more than four components"
    elif any((each.across, each.down) != (1, 1) for each in size.components):
        problem = "whose colours have fewer pixels than its brightness"
    elif size.depth > MOST_DEPTH:
        problem = f"with {size.depth} bits, of which captiond reads {MOST_DEPTH} at most"
    if problem:
        raise ImageTypeRefused(f"this is a JPEG 2000 image {problem}; convert it to PNG or TIFF")


def readable(stream: bytes, size: StreamSize) -> tuple[bytes, tuple[Levels, ...]]:
    """Return a codestream that Pillow reads, and what each of its 8-bit values means.

    That is a table for each component, or none if all values are what they are.
    """
    if size.is_deep_grey or all(component.depth == BYTE for component in size.components):
        return stream, ()
    exact = size.depth <= BYTE or is_reversible(stream)
    changed, tables = bytearray(stream), []
    for number, component in enumerate(size.components):
        at = FIRST_COMPONENT + COMPONENT_BYTES * number
        depth, table = said_depth(component.depth, exact=exact)
        changed[at] = changed[at] & SIGNED | (depth - 1)
        tables.append(table)
    return bytes(changed), tuple(tables) if set(tables) != {UNCHANGED} else ()


def said_depth(depth: int, *, exact: bool) -> tuple[int, Levels]:
    """Return the depth that the stream has to say, and what its 8-bit values mean then.

    Coefficients of the wavelets that are not reversible are fractions of the whole range, so the
    library reduces them itself. With `exact` wavelets, one more bit moves the values into the
    middle half of the range.
    """
    if depth <= BYTE:
        white = ((1 << depth) - 1) << (BYTE - depth)
        return depth, tuple(min(255, round(value * 255 / white)) for value in range(256))
    if not exact:
        return BYTE, UNCHANGED
    return depth + 1, tuple(min(255, max(0, round((x - 64) * 255 / 128))) for x in range(256))


def is_reversible(stream: bytes) -> bool:
    """Return whether the wavelets of a codestream are the reversible ones.

    Raises:
        CorruptImage: it does not say which wavelets it has.
        ImageTypeRefused: it has both kinds.
    """
    found = set(transforms(stream))
    if not found:
        raise CorruptImage("the image does not say how it is coded")
    if len(found) > 1:
        raise ImageTypeRefused(
            "this is a JPEG 2000 image with more than 8 bits and two kinds of wavelets; convert it "
            "to PNG or TIFF"
        )
    return found.pop() == 1


def transforms(stream: bytes) -> Iterator[int]:
    """Yield the wavelets that each coding segment of a codestream names: 0 or 1."""
    for marker, body in segments(stream):
        at = {CODING: TRANSFORM, COMPONENT_CODING: COMPONENT_TRANSFORM}.get(marker)
        if at is not None and at < len(body):
            yield body[at]


def segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the body of each segment, of the main header and of the tile parts.

    Raises:
        ImageTooSlow: there are too many.
    """
    at, after = 2, 0
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(stream):
            return
        marker, length = struct.unpack(">HH", stream[at : at + 4])
        if marker == DATA:
            at = after
            continue
        if marker == END or length < 2:
            return
        body = stream[at + 4 : at + 2 + length]
        if marker == TILE_PART:
            part = int.from_bytes(body[2:6], "big")
            after = at + part if part else len(stream)
            if after <= at + 2 + length:
                return
        yield marker, body
        at += 2 + length
    raise ImageTooSlow(f"the file has more than {MAX_SEGMENTS} segments")
