"""Why a caption cannot be written beside an image or into it. The message says what to do."""

from pathlib import Path

from captiond.errors import CaptiondError


class NotWritten(CaptiondError):
    """A result could not be written to a file. The file is as it was."""

    code = "file_not_written"

    def about(self, path: Path) -> str:
        """Return the message beside the name of a file, which is not repeated."""
        return str(self).removeprefix(f"{path}: ")


class MetadataUnreadable(NotWritten):
    """A file has metadata in a form that captiond cannot extend without a risk."""

    code = "metadata_unreadable"


class NoPlaceForMetadata(NotWritten):
    """A file of this type, or this file, has no place for XMP."""

    code = "no_place_for_metadata"
