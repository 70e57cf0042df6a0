"""The files of an import's results: one for each shard, in a folder or in object storage.

A file gets its name when it is whole, and the same shard always has the same name. A shard that is
captioned again, because a process died before it could note that it was finished, replaces it.
"""

import io
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from captiond.errors import SettingsError, StorageFailed
from captiond.references.addresses import (
    bucket_store,
    is_object,
    local_path,
    split_object,
)
from captiond.references.manifests import COLUMN, NO_PYARROW
from captiond.spool.bucket_errors import reason_of, response_of
from captiond.store.shards import Form

PLACE = ".captiond-import"  # a file in a folder of results, with the id of its import
Rows = Sequence[Mapping[str, Any]]


def as_jsonl(rows: Rows) -> bytes:
    """Return rows as lines of JSON. Bytes of a file name that are not UTF-8 are escaped."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return "".join(lines).encode(errors="backslashreplace")  # as JSON escapes them


def as_parquet(rows: Rows) -> bytes:
    """Return rows as a Parquet file."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    from captiond.references.result_tables import result_columns, valid_text

    addresses = pa.array([valid_text(row[COLUMN]) for row in rows], type=pa.string())
    file = io.BytesIO()
    write_table(pa.table({COLUMN: addresses, **result_columns(rows)}), file)
    return file.getvalue()


def from_jsonl(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def from_parquet(content: bytes) -> list[dict[str, Any]]:
    from pyarrow.parquet import ParquetFile

    return list(ParquetFile(io.BytesIO(content)).read().to_pylist())


WRITERS: Mapping[Form, Callable[[Rows], bytes]] = {"jsonl": as_jsonl, "parquet": as_parquet}
READERS_OF: Mapping[Form, Callable[[bytes], list[dict[str, Any]]]] = {
    "jsonl": from_jsonl,
    "parquet": from_parquet,
}


class ShardFiles:
    """The files in one place. All methods block."""

    def __init__(self, output: str, form: Form) -> None:
        """Raises SettingsError: a library is missing, or `output` cannot be a place of files."""
        if form == "parquet" and find_spec("pyarrow") is None:
            raise SettingsError(NO_PYARROW)
        if is_object(output):
            bucket_store(split_object(output)[0])
        self._form = form
        self._output = output

    def name(self, number: int) -> str:
        return f"part-{number:07}.{self._form}"

    def mark_place(self, import_id: str) -> None:
        """Let `check_place` recognise the place. In object storage, nothing is needed for that.

        Raises:
            StorageFailed: it cannot be written to.
        """
        if not is_object(self._output):
            with as_storage_error(self._output):
                replace_file(local_path(self._output) / PLACE, import_id.encode())

    def marked_by(self) -> str | None:
        """Return the id of the import that has marked the place, or None.

        Raises:
            StorageFailed: that cannot be read.
        """
        if is_object(self._output):
            return None
        with as_storage_error(self._output):
            mark = local_path(self._output) / PLACE
            return mark.read_text("utf-8", "replace") if mark.exists() else None

    def check_place(self, import_id: str) -> None:
        """Check that this machine has the folder that was marked, and not another one of its name.

        Raises:
            StorageFailed: it has not. Results would be on one machine, and missing on the others.
        """
        if is_object(self._output):
            return
        try:
            mark = (local_path(self._output) / PLACE).read_text("utf-8", "replace")
        except OSError as error:
            raise StorageFailed(
                f"{self._output}: not the folder of {import_id}, which all machines have to share: "
                f"{PLACE}: {error.strerror}"
            ) from error
        if mark != import_id:
            raise StorageFailed(f"{self._output}: the folder of {mark}, not of {import_id}")

    def write(self, number: int, rows: Rows) -> None:
        """Write the results of a shard. They are on disk, or stored, on return.

        Raises:
            StorageFailed: they are not.
        """
        content = WRITERS[self._form](rows)
        with as_storage_error(self._output):
            if is_object(self._output):
                self._put(self.name(number), content)
            else:
                path = local_path(self._output) / self.name(number)
                replace_file(path, content)
                remove_parts(path)

    def read(self, number: int) -> list[dict[str, Any]]:
        """Return the results of a shard.

        Raises:
            StorageFailed: they cannot be read, or are damaged.
        """
        with as_storage_error(f"{self._output}/{self.name(number)}"):
            return READERS_OF[self._form](self._content(self.name(number)))

    def _content(self, name: str) -> bytes:
        if not is_object(self._output):
            return (local_path(self._output) / name).read_bytes()
        from obstore.exceptions import BaseError

        bucket, key = self._key(name)
        try:
            return bytes(bucket_store(bucket).get(key).bytes())
        except BaseError as error:
            raise StorageFailed(f"{self._output}/{name}: {reason_of(error)}") from error

    def _put(self, name: str, content: bytes) -> None:
        from obstore.exceptions import BaseError

        bucket, key = self._key(name)
        try:
            bucket_store(bucket).put(key, content)
        except BaseError as error:
            raise StorageFailed(f"{self._output}/{name}: {reason_of(error)}") from error

    def _key(self, name: str) -> tuple[str, str]:
        return split_object(f"{self._output}/{name}")


@contextmanager
def as_storage_error(output: str) -> Iterator[None]:
    """Turn an error of the file system, or of what a file holds, into one that names the place."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or response_of(error)
        raise StorageFailed(f"{output}: {reason}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Give a file this content, durably. No reader sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(part_name(path, secrets.token_hex(8)))
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def part_name(path: Path, mark: str) -> str:
    return f".{path.name}.{mark}.part"


def remove_parts(path: Path) -> None:
    """Remove what writers of a shard have left that were killed.

    Another one that still writes has lost its claim. It gets an error, which changes nothing.
    """
    for part in path.parent.glob(part_name(path, "*")):
        part.unlink(missing_ok=True)
