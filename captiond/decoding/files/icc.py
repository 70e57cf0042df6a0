"""ICC profiles (ICC.1:2022): which pixels a profile is for, and whether it is for HDR."""

import struct

from captiond.decoding.files.colour_coding import ColourCoding

HEADER_BYTES, MAX_BYTES = 128, 4 << 20
SPACE, SIGNATURE = slice(16, 20), slice(36, 40)
TAGS, MAX_TAGS, TAG_BYTES = 128, 100, 12
MODES = {b"RGB ": "RGB", b"CMYK": "CMYK", b"GRAY": "L"}


def is_for(profile: bytes, mode: str) -> bool:
    """Return whether these bytes may be a profile for pixels of a Pillow mode."""
    if not HEADER_BYTES < len(profile) <= MAX_BYTES or profile[SIGNATURE] != b"acsp":
        return False
    return MODES.get(profile[SPACE]) == mode


def coding_of_profile(profile: bytes) -> ColourCoding | None:
    """Return the numbers of H.273 that a profile has beside its tables (`cicp`), if it has them."""
    count = min(int.from_bytes(profile[TAGS : TAGS + 4], "big"), MAX_TAGS)
    table = profile[TAGS + 4 : TAGS + 4 + TAG_BYTES * count]
    for tag, offset, _ in struct.iter_unpack(">4sII", table[: len(table) // TAG_BYTES * TAG_BYTES]):
        numbers = profile[offset + 8 : offset + 10]
        if tag == b"cicp" and len(numbers) == 2:
            return ColourCoding(numbers[0], numbers[1])
    return None
