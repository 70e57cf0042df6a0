"""Which service the prefix of `[uploads] url` belongs to.

Two services with the same prefix would remove each other's files. An object in it has the id of the
database of its service, so nodes with one database can share it.
"""

import asyncio
from typing import TYPE_CHECKING

import structlog

from captiond.errors import StartupError, StorageFailed
from captiond.spool.unavailable import StorageUnavailable
from captiond.store.databaseid import database_id
from captiond.store.engine import Engine

if TYPE_CHECKING:
    from captiond.spool.objects import ObjectSpool

log = structlog.get_logger()


async def check_prefix(objects: "ObjectSpool | None", engine: Engine) -> None:
    """Return if no other service keeps its uploads there, or if that cannot be seen now.

    Raises:
        StartupError: another one does.
        StoreError: the database cannot be used now.
    """
    try:
        await confirm_prefix(objects, engine)
    except StorageUnavailable as error:
        log.warning("uploads_not_checked", reason=str(error))
    except StorageFailed as error:
        raise StartupError(str(error)) from error


async def confirm_prefix(objects: "ObjectSpool | None", engine: Engine) -> None:
    """Return if no other service keeps its uploads there. The first service marks the place.

    Raises:
        StorageFailed: another one does.
        StorageUnavailable: the storage cannot be used now.
        StoreError: the database cannot be used now.
    """
    if objects is None:
        return
    ours = await database_id(engine)
    owner, place = await asyncio.to_thread(objects.owner, ours)
    # guard: uploads-of-another-service
    if owner != ours:
        raise StorageFailed(
            f"{place}: another captiond, with another database, keeps its uploads here. Each would "
            "remove the files of the other: set [uploads] url to a prefix of its own. If the other "
            "one is gone for good, delete this object and start again"
        )
