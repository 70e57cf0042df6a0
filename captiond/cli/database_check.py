"""`captiond db check`: the database, and the spool against it."""

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
            problems += await missing_files(engine, settings.spool)
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


async def missing_files(engine: Engine, spool: Path) -> list[str]:
    """Files that open images need. One that has ended meanwhile needs its file no more."""
    needs = await consistency.needed_files(engine)
    suspects = {name: need for name, need in needs.items() if shorter(spool / name, need)}
    if suspects:
        still = await consistency.needed_files(engine)
        suspects = {name: need for name, need in suspects.items() if name in still}
    return [
        f"{spool / name}: missing or cut short: the open images of task {need.task_id} will end "
        "as FAILED; put the file back from a copy, or let the client send them again"
        for name, need in suspects.items()
    ]


def shorter(path: Path, need: Need) -> bool:
    return not path.is_file() or path.stat().st_size < need.size


async def orphans(engine: Engine, settings: Settings) -> list[str]:
    """Files that no row owns. While captiond serves, a young one may be of a request under way."""
    now = time.time()
    found = files_before(settings.spool, now) if settings.spool.is_dir() else []
    owned = await needed_spool_names(engine)
    strays = [path for path in found if path.name not in owned]
    if strays and is_served(settings.data.dir):  # by now: it may have begun after the check
        old = set(files_before(settings.spool, now - settings.upload_grace))
        strays = [path for path in strays if path in old]
    return [f"{path}: belongs to no task; the next start removes it" for path in strays]


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
