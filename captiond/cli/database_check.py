"""`captiond db check`: the database, and the spool against it."""

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

Tell = Callable[[str], None]


async def check_all(settings: Settings, tell: Tell) -> int:
    """Look for everything that is wrong, tell each, and last the sum; how many there were.

    Raises:
        StartupError: there is no database, or it cannot be told whether it is served.
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
        tell(problem)
    state = "ok" if not problems else f"problems: {len(problems)}"
    tell(f"{settings.database}: {state}: {summary}")
    return len(problems)


async def missing_files(engine: Engine, settings: Settings) -> list[str]:
    """Files that open images need. One that has ended meanwhile needs its file no more."""
    needs = await consistency.needed_files(engine)
    sizes = open_spool(settings).sizes()
    suspects = {name: need for name, need in needs.items() if sizes.get(name, -1) < need.size}
    if suspects:
        still = await consistency.needed_files(engine)
        suspects = {name: need for name, need in suspects.items() if name in still}
    return [
        f"{settings.spool / name}: missing or cut short: the open images of task {need.task_id} "
        "will fail; restore the file from a copy, or have the client send them again"
        for name, need in suspects.items()
    ]


async def orphans(engine: Engine, settings: Settings) -> list[str]:
    """Files that no row owns. While captiond serves, a young one may be of a request under way."""
    now = time.time()
    spool, owned = open_spool(settings), await needed_spool_names(engine)
    strays = [name for name in spool.written_before(now) if name not in owned]
    if strays and is_served(settings.data.dir):  # by now: it may have begun after the check
        old = set(spool.written_before(now - settings.upload_grace))
        strays = [name for name in strays if name in old]
    return [
        f"{settings.spool / name}: belongs to no task; the next start removes it" for name in strays
    ]


def is_served(folder: Path) -> bool:
    """Whether a captiond holds the folder, which is held for no longer than it takes to tell.

    Raises:
        StartupError: this user cannot tell.
    """
    try:
        with locked(folder):
            return False
    except AlreadyRunning:
        return True
