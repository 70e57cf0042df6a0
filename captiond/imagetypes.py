"""Image types, told by a file's first bytes: never by its name or by what a client says it is."""

from collections.abc import Collection

from captiond.errors import ImageTypeRefused, NotAnImage

# The signatures stand in the formats' own specifications; a RIFF or ISO file says further in
# what it is (`ftyp` brands: ISO/IEC 14496-12, 23000-22, 23008-12).
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def image_type(head: bytes) -> str | None:
    """The type of a file that begins with `head` (64 bytes are enough); None if it is no image."""
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return iso_type(head) if head[4:8] == b"ftyp" else None


def iso_type(head: bytes) -> str | None:
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, len(head) - 3, 4))}
    if brands & AVIF_BRANDS:
        return "avif"
    return "heif" if brands & HEIF_BRANDS else None


def check_type(head: bytes, allowed: Collection[str]) -> str:
    """The type of a file that begins with `head`.

    Raises:
        NotAnImage: it is none that captiond knows.
        ImageTypeRefused: it is one that this deployment does not read.
    """
    found = image_type(head)
    if found is None:
        raise NotAnImage("not an image of a known type")
    if found not in allowed:
        raise ImageTypeRefused(f"images of type {found} are not enabled here")
    return found
