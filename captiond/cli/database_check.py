"""`captiond db check`: check the database, and compare the spool with it."""

import time
from collections.abc import Callable
from pathlib import Path

from captiond.cli.database import opened
from captiond.errors import AlreadyRunning
from captiond.settings.config import Settings
from captiond.spool import is_object, open_spool
from captiond.store import consistency
from captiond.store.engine import Engine
from captiond.store.tasks import needed_spool_names
from captiond.supervisor.lock import locked

Reporter = Callable[[str], None]


async def check_all(settings: Settings, report: Reporter) -> int:
    """Report each problem in a line, then a summary, and return the number of problems.

    Raises:
        StartupError: there is no database, or this user cannot check whether the service runs.
    """
    async with opened(settings) as engine:
        problems = await consistency.damage(engine)
        if not problems:
            problems += await consistency.contradictions(engine)
            problems += await missing_files(engine, settings)
            problems += await orphans(engine, settings)
            counted = await consistency.count(engine)
            summary = (
                f"{counted.tasks} tasks ({counted.open_tasks} open), {counted.images} images, "
                f"{counted.imports} imports"
            )
        else:
            summary = "damaged: stop captiond and restore a backup (docs/operating.md)"
    for problem in problems:
        report(problem)
    state = "ok" if not problems else f"problems: {len(problems)}"
    report(f"{settings.database_address}: {state}: {summary}")
    return len(problems)


async def missing_files(engine: Engine, settings: Settings) -> list[str]:
    """Return a problem for each spool file that open images need and that is missing or short."""
    needs = await consistency.needed_files(engine)
    spool = open_spool(settings)
    sizes = spool.sizes()
    suspects = {name: need for name, need in needs.items() if sizes.get(name, -1) < need.size}
    if suspects:  # images that finished meanwhile no longer need their file
        still = await consistency.needed_files(engine)
        suspects = {name: need for name, need in suspects.items() if name in still}
    return [
        f"{spool.place(name)}: missing or cut short: the open images of task {need.task_id} "
        "will become FAILED; restore the file from a copy, or let the client send them again"
        for name, need in suspects.items()
    ]


async def orphans(engine: Engine, settings: Settings) -> list[str]:
    """Return a problem for each spool file that no row owns.

    While the service runs, a recent file may belong to a request in progress, and is no problem.
    """
    now = time.time()
    spool = open_spool(settings)
    names = spool.written_before(now)  # before the rows: a task may be accepted in between
    owned = await needed_spool_names(engine)
    strays = [name for name in names if name not in owned]
    if strays and is_served(settings.data.dir):  # asked last: it may just have started
        old = set(spool.written_before(now - settings.upload_grace))
        strays = [name for name in strays if name in old]
    return [f"{spool.place(name)}: belongs to no task; {removal(name)}" for name in strays]


def removal(name: str) -> str:
    """Return who removes a file that belongs to no task."""
    return "the service removes it within hours" if is_object(name) else "the next start removes it"


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
