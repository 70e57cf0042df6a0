"""Images by their addresses: files of this machine, and objects in object storage.

An address is a path, `file:///photos/1.jpg`, or a URL of object storage such as
`s3://bucket/key.jpg`, `gs://…` or `az://…`. The credentials and the endpoint of object storage come
from the environment, as for its own tools: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and so on.

Addresses come from an operator's command line only. A client of the HTTP API cannot name any.
"""

import os
import stat
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from captiond.errors import (
    FileTooLarge,
    ReferenceUnavailable,
    ReferenceUnreadable,
    SettingsError,
)
from captiond.notation.sizes import shown_size
from captiond.spool.bucket_errors import reason_of, response_of
from captiond.spool.bucket_retries import RETRIES
from captiond.spool.plain_http import is_plain_http

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

STORES = frozenset({"s3", "s3a", "gs", "az", "abfs", "abfss"})
# Errors of files that another attempt does not cure.
LASTING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
NO_OBSTORE = "object storage needs the extra captiond[s3]: pip install 'captiond[s3]'"


def is_object(address: str) -> bool:
    """Return whether an address is one of object storage."""
    return address.partition("://")[0] in STORES and "://" in address


def local_path(address: str) -> Path:
    """Return the path of an address that is not one of object storage.

    Raises:
        ReferenceUnreadable: it has another scheme.
    """
    scheme, separator, _ = address.partition("://")
    if not separator or not scheme.isalnum():
        return Path(address)
    if scheme != "file":
        raise ReferenceUnreadable(f"addresses with {scheme}:// are not read")
    return Path(unquote(urlsplit(address).path))


def absolute_place(place: str) -> str:
    """Return a source or a folder of results by the one name that it has from any folder.

    Raises:
        SettingsError: it is a URL that is not read.
    """
    if is_object(place):
        return place.rstrip("/")
    try:
        path = local_path(place).absolute()
    except (ReferenceUnreadable, ValueError) as error:
        raise SettingsError(f"{place}: {error}") from error
    return os.path.realpath(path) if ".." in path.parts else str(path)


def split_object(address: str) -> tuple[str, str]:
    """Return the URL of the bucket of an address, and the key in it. A key is never decoded."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key


@lru_cache(maxsize=64)
def bucket_store(bucket: str) -> "ObjectStore":
    """Return the store of a bucket by its URL. All who read from it share its connections.

    Raises:
        SettingsError: the library is missing, the URL is none of a bucket, or the variables of the
            storage in the environment are wrong.
    """
    if find_spec("obstore") is None:
        raise SettingsError(NO_OBSTORE)
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    options: ClientConfig | None = None  # those of the environment
    if bucket.startswith("s3") and is_plain_http("", os.environ):
        options = {"allow_http": True}
    try:
        return from_url(bucket, client_options=options, retry_config=RETRIES)
    except (BaseError, ValueError) as error:
        raise SettingsError(f"{bucket}: {response_of(error)}") from error


class ReferenceReader:
    """Reads images of at most `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    def read_file(self, address: str) -> bytes:
        """Return the bytes of a file. Blocking.

        Raises:
            ReferenceUnreadable: there is nothing that can be read.
            ReferenceUnavailable: it cannot be read now.
            FileTooLarge: there is more than may be read. Then nothing is read.
        """
        try:
            path = local_path(address)
            # A pipe that nobody writes to would block for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ReferenceUnreadable("not a regular file")
                self.check(status.st_size)
                return file.read(self._most_bytes + 1)
        except LASTING as error:
            raise ReferenceUnreadable(error.strerror or str(error)) from error
        except OSError as error:
            raise ReferenceUnavailable(error.strerror or str(error)) from error
        except ValueError as error:  # such as a null byte
            raise ReferenceUnreadable(str(error)) from error

    async def read_object(self, address: str) -> bytes:
        """Return the bytes of an object. Raises the same errors as `read_file`."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        bucket, key = split_object(address)
        try:
            found = await bucket_store(bucket).get_async(key)
            self.check(found.meta["size"])
            return bytes(await found.bytes_async())
        except FileNotFoundError as error:
            raise ReferenceUnreadable("there is no such object") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise ReferenceUnreadable(reason_of(error)) from error
        except (BaseError, OSError) as error:
            raise ReferenceUnavailable(reason_of(error)) from error
        except (SettingsError, ValueError) as error:  # obstore refuses keys such as a//b
            raise ReferenceUnreadable(str(error)) from error

    def check(self, size: int) -> None:
        """Return if an image may have so many bytes. Raises FileTooLarge."""
        if size > self._most_bytes:
            raise FileTooLarge(f"the file is over {shown_size(self._most_bytes)}")
