"""What `captiond check` says of files and folders: the data folder, the database, keys, images."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from captiond.databaseurl import DatabaseAddress
from captiond.errors import StartupError
from captiond.settings.config import Settings
from captiond.settings.keyfiles import key_files, read_keys
from captiond.store.engine import make_engine
from captiond.store.migrate import check_revision, check_undamaged, is_older, revision
from captiond.supervisor.datafolder import check_files, check_rights, is_read_only, no_folder
from captiond.supervisor.signing import signing_secrets


def stored_parts(
    settings: Settings, environ: Mapping[str, str]
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each part that the settings use, and a function that checks it.

    The function returns its result as text, and raises a CaptiondError if the part is not usable.
    """
    yield "data folder", lambda: check_data(settings)
    if settings.uploads.url:
        yield "uploads", lambda: check_uploads(settings)
    yield "database", lambda: check_database(settings)
    if files := key_files(settings.keys, environ):
        yield "keys", lambda: check_keys(files)
    if root := settings.images.root:
        yield "images on the server", lambda: check_image_root(root)
    if settings.webhooks.allow:
        yield "webhooks", lambda: check_secret(settings)


def check_data(settings: Settings) -> str:
    """Return where the data folder is, or where the first start will create it.

    Raises:
        StartupError: captiond cannot write there, or to a file in it.
    """
    folder = settings.data.dir
    place = nearest(folder)
    if not place.is_dir():
        raise StartupError(f"{place} is a file; set [data] dir to a folder")
    check_rights(place, os.R_OK | os.W_OK | os.X_OK)
    if is_read_only(place):
        raise StartupError(f"{place}: its file system is read-only; mount it writable")
    if place != folder.absolute():
        return f"{folder} will be created at the first start"
    if os.path.lexists(settings.spool):
        if not settings.spool.is_dir():
            raise StartupError(no_folder(settings.spool))
        check_rights(settings.spool, os.R_OK | os.W_OK | os.X_OK)
        check_files(settings)
    return str(folder)


def nearest(folder: Path) -> Path:
    """Return a folder, or the first of those above it that exists."""
    above = (folder.absolute(), *folder.absolute().parents)
    return next(path for path in above if os.path.lexists(path))


def check_database(settings: Settings) -> str:
    """Return the state of the database. The first start creates it.

    Raises:
        StartupError, StoreError: the service could not use it.
    """
    address = settings.database_address
    if address.file is not None:
        if not os.path.lexists(address.file):
            return "will be created at the first start"
        check_rights(address.file, os.R_OK | os.W_OK)
    return asyncio.run(state_of(address))


async def state_of(address: DatabaseAddress) -> str:
    engine = make_engine(address)
    try:
        await check_undamaged(engine)
        present = await revision(engine)
        if present is None and address.is_server:
            return f"{address}: its tables will be created at the first start"
        if is_older(present):
            return f"{address} will be updated at the next start"
        await check_revision(engine)
    finally:
        await engine.dispose()
    return str(address)


def check_uploads(settings: Settings) -> str:
    """Return the object storage of uploads, after a trial.

    Raises:
        SettingsError, StartupError, StoreError: the service could not use it.
    """
    from captiond.spool.bucket import open_bucket
    from captiond.spool.trial import try_storage

    try_storage(open_bucket(settings.uploads))
    return f"{settings.uploads.url} can be written, read, listed and cleaned"


def check_keys(files: tuple[Path, ...]) -> str:
    """Return how many keys the files have.

    Raises:
        SettingsError: a file cannot be read, or an entry is wrong.
    """
    return ", ".join(f"{len(read_keys(file))} in {file}" for file in files)


def check_image_root(root: Path) -> str:
    """Return the folder of the images that requests may name.

    Raises:
        StartupError: there is no such folder, or this user cannot read it.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises if a parent is not accessible
        raise StartupError(f"{root} is no folder that this user can enter; correct [images] root")
    check_rights(root, os.R_OK | os.X_OK)
    return str(root)


def check_secret(settings: Settings) -> str:
    """Return where the secret of webhooks comes from. A check creates none.

    Raises:
        StartupError: the file of the secret cannot be read, or has no valid secret.
    """
    if not settings.webhooks.secret.get_secret_value() and not settings.signing_secret.exists():
        return f"{settings.signing_secret} will be created at the first start"
    return f"{len(signing_secrets(settings))} secret(s)"
