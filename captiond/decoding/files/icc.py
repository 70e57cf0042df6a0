"""ICC profiles (ICC.1:2022): whether an image has to be converted to sRGB."""

import struct

# The primaries of sRGB under D50, as the tags rXYZ, gXYZ and bXYZ have them.
SRGB = {
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7141),
}
TOLERANCE = 0.02  # a smaller difference gives no colour another name
HEADER_BYTES, MAX_TAGS = 128, 100
SPACE, SIGNATURE = slice(16, 20), slice(36, 40)
MAX_BYTES = 4 << 20
MODES = {b"RGB ": "RGB", b"CMYK": "CMYK"}


def needs_conversion(profile: bytes, mode: str) -> bool:
    """Return whether pixels of a Pillow mode, by this profile, differ visibly from sRGB."""
    if not HEADER_BYTES < len(profile) <= MAX_BYTES or profile[SIGNATURE] != b"acsp":
        return False
    if MODES.get(profile[SPACE]) != mode:
        return False
    return mode == "CMYK" or has_other_primaries(profile)


def has_other_primaries(profile: bytes) -> bool:
    primaries = read_primaries(profile)
    return len(primaries) == len(SRGB) and any(
        abs(value - srgb) > TOLERANCE
        for tag, values in primaries.items()
        for value, srgb in zip(values, SRGB[tag], strict=True)
    )


def read_primaries(profile: bytes) -> dict[bytes, tuple[float, ...]]:
    """Return X, Y and Z of the three primaries, without those that the profile does not have."""
    count = min(int.from_bytes(profile[128:132], "big"), MAX_TAGS)
    found = {}
    table = profile[132 : 132 + 12 * count]
    for tag, offset, _ in struct.iter_unpack(">4sII", table[: len(table) // 12 * 12]):
        raw = profile[offset + 8 : offset + 20]
        if tag in SRGB and len(raw) == 12:
            found[tag] = tuple(value / 65536 for value in struct.unpack(">3i", raw))
    return found
