"""A bucket of object storage, through the library obstore, with errors that say what to do.

Nothing else of the spool imports obstore. It retries requests that a server could not serve, for a
bounded time; whoever can wait longer repeats the call.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from captiond.errors import SettingsError
from captiond.settings.upload_settings import UploadSettings
from captiond.spool.access_keys import key_provider
from captiond.spool.bucket_errors import translated
from captiond.spool.bucket_retries import RETRIES
from captiond.spool.plain_http import is_plain_http

if TYPE_CHECKING:
    from obstore import Bytes
    from obstore.store import ClientConfig, S3Config

PART_BYTES = 8 * 1024 * 1024  # of an object that is sent in parts
PARTS_AT_ONCE = 3  # of one object
REQUEST_SECONDS, CONNECT_SECONDS = 30, 5


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a listing. `written` is a Unix time in seconds, by the server's clock."""

    name: str
    size: int
    written: float


class Bucket:
    """The objects below the prefix of `[uploads] url`. Names are relative to it.

    Each method raises StorageUnavailable if the storage cannot be reached or refuses, NoSpace if it
    is full, and SpoolError if an object is missing or too short.
    """

    def __init__(self, store: S3Store, url: str) -> None:
        self._store = store
        self.url = url

    async def put(self, name: str, content: bytes | Path, size: int) -> None:
        """Store an object of `size` bytes: from memory, or in parts from a file.

        It can be read by anyone from the return of this call on, and not in part before. Parts that
        were sent are removed if the call fails.
        """
        with self._translated("written"):
            await obstore.put_async(
                self._store,
                name,
                content,
                use_multipart=size > PART_BYTES,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    async def fetch(self, name: str, offset: int, size: int) -> "Bytes":
        """Return some bytes of an object, or fewer if it ends before."""
        with self._translated("read"):
            return await obstore.get_range_async(self._store, name, start=offset, length=size)

    def read(self, name: str, offset: int, size: int) -> "Bytes":
        """Do what `fetch` does, for a caller that may block."""
        with self._translated("read"):
            return obstore.get_range(self._store, name, start=offset, length=size)

    def store(self, name: str, content: bytes) -> None:
        """Store a small object, for a caller that may block."""
        with self._translated("written"):
            obstore.put(self._store, name, content)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects. One that is missing is no error."""
        if names:
            with self._translated("deleted"):
                obstore.delete(self._store, names)

    def objects(self, folder: str | None = None) -> Iterator[StoredObject]:
        """Yield the objects of one folder below the prefix, or all."""
        with self._translated("listed"):
            for page in obstore.list(self._store, folder):
                for meta in page:
                    yield StoredObject(
                        meta["path"], meta["size"], meta["last_modified"].timestamp()
                    )

    @contextmanager
    def _translated(self, done: str) -> Iterator[None]:
        """Turn the errors of obstore into those of captiond."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise translated(error, self.url, done) from error


def open_bucket(settings: UploadSettings) -> Bucket:
    """Return the bucket of the settings. No request is made.

    Raises:
        SettingsError: the credentials or the endpoint cannot be used.
    """
    try:
        store = S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            config=config_of(settings),
            client_options=client_options(settings),
            retry_config=RETRIES,
            credential_provider=key_provider(settings),
        )
    except BaseError as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(f"[uploads] {settings.url} cannot be used: {reason}") from error
    return Bucket(store, settings.url)


def config_of(settings: UploadSettings) -> "S3Config":
    """Return what the settings say. What they leave open, obstore takes from the environment."""
    config: S3Config = {}
    if settings.endpoint:
        config["aws_endpoint_url_s3"] = settings.endpoint
    if settings.region:
        config["region"] = settings.region
    return config


def client_options(settings: UploadSettings) -> "ClientConfig":
    """Return the options of the HTTP client.

    Raises:
        SettingsError: the file of the certificate authority cannot be read.
    """
    options: ClientConfig = {
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    if is_plain_http(settings.endpoint, os.environ):
        options["allow_http"] = True
    if settings.ca is not None:
        try:
            options["root_certificate"] = settings.ca.read_bytes()
        except OSError as error:
            raise SettingsError(f"{settings.ca}: cannot be read: {error.strerror}") from error
    return options
