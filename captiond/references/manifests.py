"""The addresses of the images to caption, one after the other, from where they are listed.

A source is one of these, on this machine or in object storage:

- a folder, or a prefix such as `s3://bucket/photos`: all images in it, by the extensions of their
  names, but nothing that is hidden, and nothing in folders of a system
- a manifest: a `.parquet`, `.csv` or `.jsonl` file with a column of addresses, or a `.txt` file
  with an address on each line
- one image

A source is read while its images are captioned, so that its length does not matter. Paths in a
manifest are relative to its folder, which may be one of object storage.
"""

import csv
import errno
import io
import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO

from typing_extensions import Buffer

from captiond.errors import SettingsError
from captiond.imagetypes import SUFFIXES
from captiond.references.addresses import (
    bucket_store,
    is_object,
    local_path,
    split_object,
)
from captiond.spool.bucket_errors import reason_of, response_of

COLUMN = "uri"
LISTED_AT_ONCE = 1000  # objects: as many as a page of S3 has
ROWS_AT_ONCE = 10_000  # of a Parquet file
PIECE_BYTES = 4 << 20  # of a manifest in object storage, read in one request
SYSTEM_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"})
NO_PYARROW = "Parquet needs the extra captiond[parquet]: pip install 'captiond[parquet]'"


def addresses(source: str, column: str = COLUMN) -> Iterator[str]:
    """Yield the addresses of the images of a source.

    Raises:
        SettingsError: the source cannot be read, or has no such column.
    """
    reader = READERS.get(PurePosixPath(source).suffix.lower())
    try:
        if reader is not None:
            folder = folder_of(source)
            yield from (absolute(each, folder) for each in reader(source, column) if each)
        elif is_object(source):
            yield from objects(source)
        else:
            yield from files(local_path(source))
    except (OSError, ValueError, csv.Error) as error:
        raise SettingsError(problem_with(source, error)) from error


def problem_with(source: str, error: Exception) -> str:
    """Return why a source cannot be read. A folder within it is named."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or source}: {error.strerror}"
    return f"{source}: {response_of(error)}"


def folder_of(source: str) -> str:
    """Return the folder of a manifest."""
    if is_object(source):
        return source.rpartition("/")[0]
    return str(local_path(source).absolute().parent)


def absolute(address: str, folder: str) -> str:
    """Return an address of a manifest as one that can be read from any folder."""
    if "://" in address or address.startswith("/"):
        return address
    if not is_object(folder):
        return str(Path(folder, address))
    bucket, key = split_object(f"{folder}/{address}")
    return f"{bucket}/{posixpath.normpath(key)}"


# ---------------------------------------------------------------- listings


def files(path: Path) -> Iterator[str]:
    """Yield the images of a folder and of those in it, in the order of their names."""
    if path.is_file():
        yield str(path.absolute())
        return
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if is_left_out(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files(Path(entry.path))
        elif is_image(entry.name) and is_file(entry):
            yield str(Path(entry.path).absolute())


def is_file(entry: "os.DirEntry[str]") -> bool:
    """Return whether this is a file or a link to one."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself, which is as good as a broken one
            return False
        raise


def objects(source: str) -> Iterator[str]:
    """Yield the images beneath a prefix, or the one object of this name."""
    bucket, prefix = split_object(source)
    if is_image(prefix):
        yield source
        return
    with as_settings_error(source):
        for page in bucket_store(bucket).list(prefix or None, chunk_size=LISTED_AT_ONCE):
            for key in (each["path"] for each in page):
                parts = PurePosixPath(key.removeprefix(prefix)).parts
                if is_image(key) and not any(map(is_left_out, parts)):
                    yield f"{bucket}/{key}"


def is_image(name: str) -> bool:
    """Return whether a name says that it is one of an image."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def is_left_out(name: str) -> bool:
    """Return whether a file or a folder is hidden, or belongs to a system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


# ---------------------------------------------------------------- manifests


def rows_of_parquet(source: str, column: str) -> Iterator[str]:
    if find_spec("pyarrow") is None:
        raise SettingsError(NO_PYARROW)
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    with opened(source) as file:
        try:
            table = ParquetFile(file)
        except ArrowInvalid as error:
            raise SettingsError(f"{source}: {str(error).splitlines()[0]}") from error
        check_column(source, column, table.schema_arrow.names)
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=[column]):
            values = (value for value in batch.column(0).to_pylist() if value is not None)
            yield from (text_of(value, column, source) for value in values)


def rows_of_csv(source: str, column: str) -> Iterator[str]:
    with opened(source) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
        check_column(source, column, rows.fieldnames or [])
        yield from (row[column] or "" for row in rows)


def rows_of_jsonl(source: str, column: str) -> Iterator[str]:
    with opened(source) as file:
        for number, line in enumerate(io.TextIOWrapper(file, "utf-8-sig"), 1):
            if line.strip():
                yield address_in(line, column, f"{source}: line {number}")


def rows_of_text(source: str, _: str) -> Iterator[str]:
    with opened(source) as file:
        yield from (line.strip("\r\n") for line in io.TextIOWrapper(file, "utf-8-sig"))


READERS: dict[str, Callable[[str, str], Iterator[str]]] = {
    ".parquet": rows_of_parquet,
    ".csv": rows_of_csv,
    ".jsonl": rows_of_jsonl,
    ".ndjson": rows_of_jsonl,
    ".txt": rows_of_text,
}


def address_in(line: str, column: str, place: str) -> str:
    """Return the address in a line of JSON: a string, or an object with the column.

    Raises:
        SettingsError: it is neither.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{place}: not JSON: {getattr(error, 'msg', error)}") from error
    if isinstance(value, dict):
        check_column(place, column, value)
        value = value[column]
    return text_of(value, column, place)


def text_of(value: object, column: str, place: str) -> str:
    """Return an address as text. Some programs write texts as bytes into Parquet files.

    Raises:
        SettingsError: it is something else.
    """
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if not isinstance(value, str):
        raise SettingsError(f"{place}: {column} is not a text")
    return value


def check_column(source: str, column: str, columns: Iterable[str]) -> None:
    """Check that a manifest has the column of addresses.

    Raises:
        SettingsError: it has not; the message names those that it has.
    """
    if column not in (names := list(columns)):
        raise SettingsError(
            f"{source}: there is no column {column}, only {', '.join(names) or 'none'}; name the "
            "column of addresses with --column"
        )


def opened(source: str) -> IO[bytes]:
    """Open a manifest for reading.

    Raises:
        OSError, SettingsError: it cannot be opened.
    """
    if not is_object(source):
        return local_path(source).open("rb")
    return io.BufferedReader(ObjectFile(source), PIECE_BYTES)


class ObjectFile(io.RawIOBase):
    """An object as a file. Each read is a request, so it is buffered in large pieces.

    Raises:
        FileNotFoundError, SettingsError: the object cannot be read.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        bucket, self._key = split_object(address)
        self._store = bucket_store(bucket)
        self._place = 0
        with as_settings_error(address):
            self._size = self._store.head(self._key)["size"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, self._size)
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer)
        end = min(self._place + len(target), self._size)
        if end <= self._place:
            return 0
        with as_settings_error(self._address):
            piece = bytes(self._store.get_range(self._key, start=self._place, end=end))
        target[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


@contextmanager
def as_settings_error(address: str) -> Iterator[None]:
    """Turn an error of object storage into one that names the address."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        raise SettingsError(f"{address}: {reason_of(error)}") from error
