"""`captiond db check`: the database is checked, and the spool is compared with it."""

import time
from collections.abc import Callable
from pathlib import Path

from captiond.cli.database import opened
from captiond.config import Settings
from captiond.errors import AlreadyRunning
from captiond.spool import open_spool
from captiond.store import consistency
from captiond.store.engine import Engine
from captiond.store.tasks import needed_spool_names
from captiond.supervisor.lock import locked


async def check_all(settings: Settings, write: Callable[[str], None]) -> int:
    """Write a line for each problem and a summary at the end. Return the number of problems.

    Raises:
        StartupError: There is no database, or this user may not use the lock of its folder.
    """
    async with opened(settings) as engine:
        problems = await consistency.damage(engine)
        if not problems:
            problems += await consistency.contradictions(engine)
            problems += await missing_files(engine, settings)
            problems += await orphans(engine, settings)
            counted = await consistency.count(engine)
            summary = f"{counted.tasks} tasks ({counted.open_tasks} open), {counted.images} images"
        else:
            summary = "damaged: stop captiond and restore a backup (docs/operating.md)"
    for problem in problems:
        write(problem)
    state = "ok" if not problems else f"problems: {len(problems)}"
    write(f"{settings.database}: {state}: {summary}")
    return len(problems)


async def missing_files(engine: Engine, settings: Settings) -> list[str]:
    """Return a problem for each file that open images need and that is missing or too short."""
    needs = await consistency.needed_files(engine)
    sizes = open_spool(settings).sizes()
    suspects = {name: need for name, need in needs.items() if sizes.get(name, -1) < need.size}
    if suspects:  # a task that has finished meanwhile needs its file no more
        still = await consistency.needed_files(engine)
        suspects = {name: need for name, need in suspects.items() if name in still}
    return [
        f"{settings.spool / name}: missing or cut short: the open images of task {need.task_id} "
        "will fail; restore the file from a copy, or have the client send them again"
        for name, need in suspects.items()
    ]


async def orphans(engine: Engine, settings: Settings) -> list[str]:
    """Return a problem for each file that no task needs.

    While captiond serves, a young file may belong to a request that is not accepted yet.
    """
    now = time.time()
    spool, needed = open_spool(settings), await needed_spool_names(engine)
    strays = [name for name in spool.written_before(now) if name not in needed]
    if strays and is_served(settings.data.dir):  # asked now, since it may have started meanwhile
        old = set(spool.written_before(now - settings.upload_grace))
        strays = [name for name in strays if name in old]
    return [
        f"{settings.spool / name}: belongs to no task; the next start removes it" for name in strays
    ]


def is_served(folder: Path) -> bool:
    """Return whether a captiond serves the folder. Its lock is taken for a moment.

    Raises:
        StartupError: This user may not use the lock.
    """
    try:
        with locked(folder):
            return False
    except AlreadyRunning:
        return True
