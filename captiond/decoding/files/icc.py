"""ICC profiles (ICC.1:2022): which pixels a profile is for."""

HEADER_BYTES, MAX_BYTES = 128, 4 << 20
SPACE, SIGNATURE = slice(16, 20), slice(36, 40)
MODES = {b"RGB ": "RGB", b"CMYK": "CMYK", b"GRAY": "L"}


def is_for(profile: bytes, mode: str) -> bool:
    """Return whether these bytes may be a profile for pixels of a Pillow mode."""
    if not HEADER_BYTES < len(profile) <= MAX_BYTES or profile[SIGNATURE] != b"acsp":
        return False
    return MODES.get(profile[SPACE]) == mode
