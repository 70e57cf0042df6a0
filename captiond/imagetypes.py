"""The type of an image file, from its first bytes. Its name and its declared type are ignored."""

from collections.abc import Collection

from captiond.errors import ImageTypeRefused, NotAnImage

# The signatures are those of the formats' specifications. RIFF and ISO files name their type after
# the signature; the `ftyp` brands are defined in ISO/IEC 14496-12, 23000-22 and 23008-12.
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
# File name extensions that say that a file is an image of one of these types.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".webp", ".avif", ".avifs", ".heic", ".heif", ".hif"}
)
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def image_type(head: bytes) -> str | None:
    """Return the type of a file that begins with `head`, or None if it is not a known image type.

    64 bytes are enough.
    """
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return iso_type(head) if head[4:8] == b"ftyp" else None


def iso_type(head: bytes) -> str | None:
    """Return the type of an ISO base media file by its brands, or None if it is not an image."""
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, len(head) - 3, 4))}
    if brands & AVIF_BRANDS:
        return "avif"
    return "heif" if brands & HEIF_BRANDS else None


def check_type(head: bytes, allowed: Collection[str]) -> str:
    """Return the type of a file that begins with `head`, if it is one of the `allowed` types.

    Raises:
        NotAnImage: The file has no image type that captiond knows.
        ImageTypeRefused: This deployment does not accept images of the file's type.
    """
    name = image_type(head)
    if name is None:
        raise NotAnImage("not an image of a known type")
    if name not in allowed:
        raise ImageTypeRefused(f"images of type {name} are not enabled here")
    return name
