"""The images that a caller names: files, bytes or open files, as httpx2 sends them."""

import errno
import io
import os
from pathlib import Path
from typing import BinaryIO, cast

FilePart = tuple[str, BinaryIO]
Picture = str | os.PathLike[str] | bytes | BinaryIO | tuple[str, bytes | BinaryIO]
"""A path, the bytes of a file, an open binary file, or a pair of a name and one of the last two."""

UNNAMED = "image"


class FileOnDisk(io.RawIOBase):
    """A file that is open only while it is read, so that a request may have a thousand of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._at = 0
        self._file: BinaryIO | None = None

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position from which the next read begins, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        self._release()
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. The first read opens the file, and the last one closes it.

        Raises:
            OSError: it cannot be read, or its size has changed, which the request says already.
        """
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        if not wanted:
            return b""
        data = self._opened().read(wanted)
        if len(data) < wanted:
            raise self._changed()
        self._at += wanted
        if self._at == self._size:
            self._release()
        return data

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = self._path.open("rb")
            if os.fstat(self._file.fileno()).st_size != self._size:
                raise self._changed()
            self._file.seek(self._at)
        return self._file

    def _changed(self) -> OSError:
        self._release()
        return OSError(errno.ESTALE, "the file has changed while it was sent", str(self._path))

    def close(self) -> None:
        self._release()
        super().close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def file_part(picture: Picture) -> FilePart:
    """Return the name and the content of an image. The content can be read again.

    Raises:
        OSError: the file cannot be opened.
        TypeError: the value is none of the kinds of `Picture`.
    """
    match picture:
        case str() | os.PathLike():
            path = Path(picture)
            return sendable(path.name), cast(BinaryIO, FileOnDisk(path))
        case (str(name), content):
            return sendable(name), rereadable(content)
        case tuple():
            raise TypeError(f"not a pair of a name and bytes or an open file: {picture!r}")
        case _:
            return sendable(name_of(picture)), rereadable(picture)


def name_of(content: object) -> str:
    """Return the name of an open file, without its folder."""
    path = getattr(content, "name", None)
    return Path(path).name if isinstance(path, str) else UNNAMED


def rereadable(content: object) -> BinaryIO:
    """Return bytes or an open file as a file that can be read again, for a repetition of the call.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        return io.BytesIO(content)
    read = getattr(content, "read", None)
    if read is None:
        raise TypeError(f"not a path, bytes or an open file: {content!r}")
    data = read()
    if not isinstance(data, bytes):
        raise TypeError("the file is open for text; open it with mode 'rb'")
    return io.BytesIO(data)


def sendable(name: str) -> str:
    """Return a file name as text that can be sent, whatever bytes it has on disk."""
    return os.fsencode(name).decode(errors="replace") or UNNAMED
