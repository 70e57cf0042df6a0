"""A bucket of object storage, through the library obstore, with errors that say what to do.

Nothing else in captiond imports obstore. It retries requests that a server could not serve, for a
bounded time; whoever can wait longer repeats the call.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from captiond.errors import NoSpace, SettingsError, SpoolError
from captiond.spool.unavailable import StorageUnavailable
from captiond.upload_settings import UploadSettings

if TYPE_CHECKING:
    from obstore import Bytes
    from obstore.store import ClientConfig, RetryConfig, S3Config

PART_BYTES = 8 * 1024 * 1024  # of an object that is sent in parts
PARTS_AT_ONCE = 3  # of one object
REQUEST_SECONDS, CONNECT_SECONDS = 30, 5
RETRIES: "RetryConfig" = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=3)},
}
PROFILE, ACCESS_KEY, SECRET_KEY = "default", "aws_access_key_id", "aws_secret_access_key"
SESSION_TOKEN = "aws_session_token"  # noqa: S105 - the name of an entry
CODE = re.compile(r"(?:<Code>|\(code: )(\w+)")  # of a response, or of one object of several
STATUS = re.compile(r"status code: (\d{3})")
FULL = {"QuotaExceeded", "QuotaExceededException", "InsufficientCapacity", "StorageFull"}
FULL |= {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
INSUFFICIENT_STORAGE, REFUSED = "507", {"401", "403"}  # statuses of responses
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a listing. `written` is a Unix time in seconds, by the server's clock."""

    name: str
    size: int
    written: float


class Bucket:
    """The objects below the prefix of `[uploads] url`. Names are relative to it.

    Each method raises StorageUnavailable if the storage cannot be reached or refuses, NoSpace if it
    is full, and SpoolError if an object is missing.
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


def translated(error: Exception, url: str, done: str) -> SpoolError | NoSpace | StorageUnavailable:
    """Return what an error of obstore means, and what to do about it.

    The message of obstore has the URL of the request, and the body of the response, which has no
    secret. Its first line says what went wrong; the others are for programmers.
    """
    text = str(error).partition("\n\nDebug source")[0]
    code, status = first(CODE, text), first(STATUS, text)
    if code in FULL or status == INSUFFICIENT_STORAGE:
        return NoSpace("the object storage is full; nothing was accepted")
    if code == "NoSuchBucket":
        return StorageUnavailable(f"{url}: there is no such bucket; create it, or correct the URL")
    if isinstance(error, FileNotFoundError):
        return SpoolError("the uploaded file is gone from the object storage")
    if status in REFUSED or code == "AccessDenied":
        return StorageUnavailable(
            f"{url}: objects cannot be {done} ({code or 'access denied'}); check the credentials, "
            "and what the policy of the bucket allows them"
        )
    if code or status:
        return StorageUnavailable(f"{url}: objects cannot be {done}: {code or f'status {status}'}")
    reason = " ".join(text.split())[:REASON_CHARACTERS]
    return StorageUnavailable(f"{url}: the storage cannot be reached: {reason}")


def first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


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
    if settings.access_key_id:
        config["access_key_id"] = settings.access_key_id
        config["secret_access_key"] = settings.secret_access_key.get_secret_value()
    elif settings.credentials is not None:
        profile = read_credentials(settings.credentials)
        config["access_key_id"] = profile[ACCESS_KEY]
        config["secret_access_key"] = profile[SECRET_KEY]
        if token := profile.get(SESSION_TOKEN):
            config["session_token"] = token
    return config


def read_credentials(path: Path) -> Mapping[str, str]:
    """Return the profile `default` of a file of credentials.

    Raises:
        SettingsError: the file cannot be read, or has no access key. The message has no secret.
    """
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (ConfigError, UnicodeDecodeError):
        raise SettingsError(f"{path}: not a file of AWS credentials") from None
    if not parser.has_option(PROFILE, ACCESS_KEY) or not parser.has_option(PROFILE, SECRET_KEY):
        raise SettingsError(f"{path}: [{PROFILE}] has no {ACCESS_KEY} or no {SECRET_KEY}")
    return dict(parser[PROFILE])


def client_options(settings: UploadSettings) -> "ClientConfig":
    """Return the options of the HTTP client.

    Raises:
        SettingsError: the file of the certificate authority cannot be read.
    """
    options: ClientConfig = {
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    if settings.endpoint.startswith("http://"):
        options["allow_http"] = True
    if settings.ca is not None:
        try:
            options["root_certificate"] = settings.ca.read_bytes()
        except OSError as error:
            raise SettingsError(f"{settings.ca}: cannot be read: {error.strerror}") from error
    return options
