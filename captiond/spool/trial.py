"""A trial of the object storage, for `captiond check`: all that the service will do there."""

import asyncio
import secrets

from captiond.errors import CaptiondError, StartupError
from captiond.spool.bucket import Bucket

OWNER = "check"  # no process has this name, so the sweep of orphans removes what a trial leaves
CONTENT = b"captiond tries this storage"
BEGIN, LENGTH = 9, 5


def try_storage(bucket: Bucket) -> None:
    """Write an object, read a part of it, find it in a listing, and delete it.

    Raises:
        StorageUnavailable, NoSpace: one of these is not possible; the message says what to do.
        StartupError: the storage does not do what it says.
    """
    name = f"{OWNER}/{secrets.token_hex(16)}"
    asyncio.run(bucket.put(name, CONTENT, len(CONTENT)))
    try:
        read = bytes(bucket.read(name, BEGIN, LENGTH))
        listed = [each.name for each in bucket.objects(OWNER)]
    except CaptiondError as error:
        raise StartupError(f"{error} (an object was written: {name})") from error
    bucket.delete([name])
    if read != CONTENT[BEGIN : BEGIN + LENGTH] or name not in listed:
        raise StartupError(
            f"{bucket.url}: an object that was written cannot be read in part, or is not listed; "
            "this server does not do what captiond needs"
        )
