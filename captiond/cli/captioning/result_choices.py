"""The values of the flags that say where results go. They import nothing, so `--help` is fast."""

from enum import StrEnum


class SidecarKind(StrEnum):
    """A kind of file beside an image."""

    TXT = "txt"
    JSON = "json"
    XMP = "xmp"


class TextContent(StrEnum):
    """What a text file beside an image contains."""

    CAPTION = "caption"
    TAGS = "tags"
    BOTH = "both"


class XmpName(StrEnum):
    """How an XMP file is named: `photo.jpg.xmp` or `photo.xmp`."""

    FULL = "full"
    STEM = "stem"
