"""The type of an image file, from its first bytes. Its name and its declared type are ignored.

Files of kinds that captiond does not read are recognized as well, so that an error can name them.
"""

import re
from collections.abc import Collection

from captiond.errors import ImageTypeRefused, NotAnImage

# The signatures are those of the formats' specifications. RIFF and ISO files name their type after
# the signature; the `ftyp` brands are defined in ISO/IEC 14496-12, 23000-22 and 23008-12.
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
)
# Images that captiond does not read, and what it calls them.
OTHER_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"8BPS", "a Photoshop document (PSD)"),
    *((bytes((0, 0, kind)) + bytes(5), "a TGA image") for kind in (2, 3, 10, 11)),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\2\0", "a cursor (CUR)"),
    (b"icns", "an icon (ICNS)"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"FUJIFILMCCD-RAW", "a raw file of a Fujifilm camera (RAF)"),
    (b"IIU\0", "a raw file of a Panasonic camera (RW2)"),
    (b"IIRO", "a raw file of an Olympus camera (ORF)"),
    (b"IIRS", "a raw file of an Olympus camera (ORF)"),
    (b"MMOR", "a raw file of an Olympus camera (ORF)"),
    (b"FOVb", "a raw file of a Sigma camera (X3F)"),
    (b"\0MRM", "a raw file of a Minolta camera (MRW)"),
    (b"II\xbc", "a JPEG XR image"),
    (b"v/1\1", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"DDS ", "a DirectDraw surface (DDS)"),
    (b"SIMPLE  =", "a FITS image"),
    (b"AT&TFORM", "a DjVu document"),
    (b"%!PS", "a PostScript document (EPS)"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document (EPS)"),
    (b"qoif", "a QOI image"),
    (b"FLIF", "a FLIF image"),
    (b"BPG\xfb", "a BPG image"),
    (b"\x8aMNG\r\n", "an animation (MNG)"),
    (b"\x8bJNG\r\n", "a JNG image"),
    (b"\x97JB2\r\n", "a JBIG2 image"),
    (b"\n\5\1\x08", "a PCX image"),
    (b"\1\xda", "an SGI image"),
    (b"/* XPM */", "an X pixmap (XPM)"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
)
IN_BASE64 = "an image in base64; send its bytes"
OTHER_FILES: tuple[tuple[bytes, str], ...] = (
    (b"data:image/", "a data URL; send the bytes of the image"),
    (b"/9j/", IN_BASE64),  # JPEG
    (b"iVBORw0KGgo", IN_BASE64),  # PNG
    (b"R0lGODlh", IN_BASE64),  # GIF
    (b"R0lGODdh", IN_BASE64),
    (b"UklGR", IN_BASE64),  # WebP
    (b"SUkqA", IN_BASE64),  # TIFF
    (b"TU0AK", IN_BASE64),
    (b"%PDF", "a PDF document"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a file compressed by gzip"),
    (b"version https://git-lfs", "a pointer of Git LFS instead of the file itself"),
    (b"Rar!\x1a\7", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\xfd7zXZ\0", "a file compressed by xz"),
    (b"BZh", "a file compressed by bzip2"),
    (b"\x28\xb5\x2f\xfd", "a file compressed by Zstandard"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\1\xba", "a video (MPEG)"),
    (b"FLV\1", "a video (FLV)"),
    (b"OggS", "a sound or a video (Ogg)"),
    (b"ID3", "a sound (MP3)"),
    (b"\0\5\x16\7", "metadata of macOS (AppleDouble)"),
    (b"\0\0\0\1Bud1", "a file of macOS with the view of a folder (.DS_Store)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE file, such as Thumbs.db"),
    (b"http://", "the address of a file; send the bytes of the image"),
    (b"https://", "the address of a file; send the bytes of the image"),
    (b"HTTP/1.", "an HTTP response with its headers; send its body"),
)
# Images that a program has changed as if they were text. No viewer shows them.
CHANGED = "an image that was changed as if it were text; send the original file"
SPOILED_FILES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", CHANGED),  # with other line breaks
    (b"\tPNG", CHANGED),  # with 7 bits
    (b"\xc2\x89PNG", CHANGED),  # Latin-1 as UTF-8
    (b"\xc3\xbf\xc3\x98\xc3\xbf", CHANGED),
    (b"\xef\xbf\xbdPNG", CHANGED),  # what is not UTF-8 is replaced
    (3 * b"\xef\xbf\xbd", CHANGED),
)
BMP_HEADER = 14
BLANKS = b" \t\r\n"
# `*+` never goes back: comments can be grouped in 2^n ways, and a file may have many of them.
SVG = re.compile(
    rb"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--.*?-->\s*+|<!DOCTYPE svg[^>]*+>\s*+)*+<svg[\s>]", re.DOTALL
)
# Images and other files that a signature at their beginning does not show.
IMAGE_PATTERNS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"P[1-7]\s|P[Ff]\n"), "a Netpbm image (PBM, PGM, PPM, PAM or PFM)"),
    (re.compile(rb"\x01\0\0\0.{36} EMF", re.DOTALL), "a Windows metafile (EMF)"),
    (re.compile(rb".{128}DICM", re.DOTALL), "a medical image (DICOM)"),
)
FILE_PATTERNS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "a video (AVI)"),
    (re.compile(rb"RIFF.{4}WAVE", re.DOTALL), "a sound (WAV)"),
    (re.compile(rb"AAAA.GZ0eXB"), IN_BASE64),  # AVIF and HEIC
    (re.compile(rb"\s*<\?xml\s"), "an XML document"),
    (re.compile(rb"\s*(?:\{\s*\"|\[\s*[\"{\[])"), "JSON"),
)
HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)", re.IGNORECASE)
UTF8_MARK = b"\xef\xbb\xbf"
HEAD_BYTES = 512  # of a file, which show its type
ADVICE = "convert it to JPEG or PNG"
# File name extensions that say that a file is an image of one of these types.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".webp", ".avif", ".avifs", ".heic", ".heif", ".hif"}
    | {
        ".jp2",
        ".j2k",
        ".j2c",
        ".jpc",
        ".jpf",
        ".jpx",
        ".jxl",
        ".dng",
        ".nef",
        ".cr2",
        ".arw",
        ".pef",
    }
)
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def image_type(head: bytes) -> str | None:
    """Return the type of a file that begins with `head`, or None if it is not a known image type.

    `HEAD_BYTES` are enough.
    """
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    # A text may begin with "BMX". The header of a BMP file has numbers of four bytes, and a text
    # has no zeros.
    if head[:2] == b"BM" and b"\0" in head[:BMP_HEADER]:
        return "bmp"
    return iso_type(head) if head[4:8] == b"ftyp" else None


def brands_of(head: bytes) -> set[bytes]:
    """Return the brands of an ISO base media file."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


def iso_type(head: bytes) -> str | None:
    """Return the type of an ISO base media file by its brands, or None if it is not an image."""
    brands = brands_of(head)
    if brands & AVIF_BRANDS:
        return "avif"
    return "heif" if brands & HEIF_BRANDS else None


def other_image(head: bytes) -> str:
    """Return what to call an image of a kind that captiond does not read; empty if it is none."""
    if head[4:8] == b"ftyp" and b"crx " in brands_of(head):
        return "a raw file of a Canon camera (CR3)"
    if SVG.match(head.removeprefix(UTF8_MARK)):
        return "a drawing (SVG)"
    return named(head, OTHER_IMAGES) or matching(head, IMAGE_PATTERNS)


def other_file(head: bytes) -> str:
    """Return what to call a file of a known kind that is not an image; empty if it is unknown."""
    if head[4:8] == b"ftyp":
        return "a video or another ISO media file"
    if HTML.match(head.removeprefix(UTF8_MARK)):
        return "an HTML page"
    known = named(head, OTHER_FILES) or named(head, SPOILED_FILES)
    return behind_text(head) or known or matching(head.removeprefix(UTF8_MARK), FILE_PATTERNS)


def behind_text(head: bytes) -> str:
    """Return what to call an image with text in front of it; empty if there is none."""
    name = image_type(head.removeprefix(UTF8_MARK).lstrip(BLANKS))
    if name is None:
        return ""
    what = "a byte order mark" if head.startswith(UTF8_MARK) else "a space or a line break"
    return f"{what} in front of an image ({name}); send the original file"


def named(head: bytes, names: tuple[tuple[bytes, str], ...]) -> str:
    return next((name for signature, name in names if head.startswith(signature)), "")


def matching(head: bytes, patterns: tuple[tuple[re.Pattern[bytes], str], ...]) -> str:
    return next((name for pattern, name in patterns if pattern.match(head)), "")


def check_type(head: bytes, allowed: Collection[str]) -> str:
    """Return the type of a file that begins with `head`, if it is one of the `allowed` types.

    Raises:
        NotAnImage: The file has no image type that captiond knows.
        ImageTypeRefused: captiond does not read images of the file's type, or this deployment
            does not accept them.
    """
    name = image_type(head)
    if name is None:
        if image := other_image(head):
            raise ImageTypeRefused(f"this is {image}, which captiond does not read; {ADVICE}")
        other = other_file(head)
        raise NotAnImage(f"not an image but {other}" if other else "not an image of a known type")
    if name not in allowed:
        raise ImageTypeRefused(f"images of type {name} are not enabled here")
    return name
