"""`captiond db copy`: copy the database into another one, while the service is stopped."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from captiond.cli.database import check_is_there
from captiond.cli.database_check import missing_files
from captiond.databaseurl import DatabaseAddress, sqlite_file
from captiond.errors import CopyFailed
from captiond.settings.config import Settings
from captiond.store.engine import make_engine
from captiond.store.moving import Progress, copy_database
from captiond.supervisor.datafolder import create_privately
from captiond.supervisor.lock import LOCK, locked

Reporter = Callable[[str], None]
NOT_CARRIED = (
    "not copied: the leases of running services, and roles, rights and settings of a server; the "
    "images in the spool stay where they are"
)


def copy_to(settings: Settings, url: str, report: Reporter, progress: Progress) -> None:
    """Copy the database of the settings to the one at `url`, and report what was copied.

    Raises:
        AlreadyRunning: the service runs.
        CopyFailed: the databases cannot be copied; the message says why.
        StartupError, StoreError: one of them cannot be used.
    """
    check_is_there(settings)
    source, target = settings.database_address, target_of(settings, url)
    if (source.file is not None and source.file == target.file) or source.url == target.url != "":
        raise CopyFailed(f"{target}: is the database itself; name another one")
    create_privately()
    with contextlib.ExitStack() as locks:
        for folder in {settings.data.dir.resolve(), *folders_of(source), *folders_of(target)}:
            if is_data_folder(folder):
                locks.enter_context(locked(folder))
        asyncio.run(run(settings, source, target, report, progress))


def target_of(settings: Settings, url: str) -> DatabaseAddress:
    """Return the address of a URL, with the other settings of the database."""
    file = sqlite_file(url)
    of_server = "" if file is not None else url
    source = settings.database
    return DatabaseAddress(
        file, of_server, source.connections, source.statement_seconds, source.connect_seconds
    )


def folders_of(address: DatabaseAddress) -> list[Path]:
    """Return the data folder that a file may be in: a service there must not run, either."""
    return [] if address.file is None else [address.file.resolve().parent]


def is_data_folder(folder: Path) -> bool:
    """Return whether a service has run in a folder."""
    return (folder / LOCK).exists()


async def run(
    settings: Settings,
    source: DatabaseAddress,
    target: DatabaseAddress,
    report: Reporter,
    progress: Progress,
) -> None:
    engines = make_engine(source), make_engine(target)
    try:
        counts = await copy_database(*engines, progress)
        for table, rows in counts.items():
            report(f"{table}: {rows} rows, compared")
        for problem in await missing_files(engines[0], settings):
            report(problem)
        report(NOT_CARRIED)
        report(f"copied {source} to {target}; set [database] url to use it")
    finally:
        for engine in engines:
            await engine.dispose()
