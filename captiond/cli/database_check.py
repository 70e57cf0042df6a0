"""`captiond db check`: check the database, and compare the spool with it."""

import time
from collections.abc import Callable
from pathlib import Path

from captiond.cli.database import opened
from captiond.config import Settings
from captiond.errors import AlreadyRunning
from captiond.spool import files_before
from captiond.store import consistency
from captiond.store.consistency import Need
from captiond.store.sqlite import Engine
from captiond.store.tasks import needed_spool_names
from captiond.supervisor.lock import locked

Reporter = Callable[[str], None]


async def check_all(settings: Settings, report: Reporter) -> int:
    """Report each problem in a line, then a summary, and return the number of problems.

    Raises:
        StartupError: there is no database, or this user cannot find out whether the service runs.
    """
    async with opened(settings) as engine:
        problems = await consistency.damage(engine)
        if not problems:
            problems += await consistency.contradictions(engine)
            problems += await missing_files(engine, settings.spool)
            problems += await orphans(engine, settings)
            counted = await consistency.count(engine)
            summary = f"{counted.tasks} tasks ({counted.open_tasks} open), {counted.images} images"
        else:
            summary = "damaged: stop captiond and restore a backup (docs/operating.md)"
    for problem in problems:
        report(problem)
    state = "ok" if not problems else f"problems: {len(problems)}"
    report(f"{settings.database}: {state}: {summary}")
    return len(problems)


async def missing_files(engine: Engine, spool: Path) -> list[str]:
    """Return a problem for each spool file that open images need and that is missing or short."""
    needs = await consistency.needed_files(engine)
    suspects = {name: need for name, need in needs.items() if shorter(spool / name, need)}
    if suspects:  # images that finished meanwhile no longer need their file
        still = await consistency.needed_files(engine)
        suspects = {name: need for name, need in suspects.items() if name in still}
    return [
        f"{spool / name}: missing or cut short: the open images of task {need.task_id} will "
        "become FAILED; restore the file from a copy, or let the client send them again"
        for name, need in suspects.items()
    ]


def shorter(path: Path, need: Need) -> bool:
    return not path.is_file() or path.stat().st_size < need.size


async def orphans(engine: Engine, settings: Settings) -> list[str]:
    """Return a problem for each spool file that no row owns.

    While the service runs, a recent file may belong to a request in progress, and is no problem.
    """
    now = time.time()
    files = files_before(settings.spool, now) if settings.spool.is_dir() else []
    owned = await needed_spool_names(engine)
    strays = [path for path in files if path.name not in owned]
    if strays and is_served(settings.data.dir):  # asked last: it may just have started
        old = set(files_before(settings.spool, now - settings.upload_grace))
        strays = [path for path in strays if path in old]
    return [f"{path}: belongs to no task; the next start removes it" for path in strays]


def is_served(folder: Path) -> bool:
    """Return whether a captiond serves this data folder. The folder is locked for a moment.

    Raises:
        StartupError: this user may not open the lock.
    """
    try:
        with locked(folder):
            return False
    except AlreadyRunning:
        return True
