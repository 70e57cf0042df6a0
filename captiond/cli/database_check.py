"""`captiond db check`: the database, and the spool against it."""

import time
from collections.abc import Callable
from pathlib import Path

from captiond.cli.database import opened
from captiond.config import Settings
from captiond.errors import AlreadyRunning
from captiond.spool import files_before
from captiond.store import check
from captiond.store.check import Need
from captiond.store.engine import Engine
from captiond.store.tasks import needed_spool_names
from captiond.supervisor.lock import locked

Tell = Callable[[str], None]


async def check_all(settings: Settings, tell: Tell) -> int:
    """Look for everything that is wrong, tell each, and last the sum; how many there were."""
    try:
        with locked(settings.data.dir):
            return await check_each(settings, tell, serving=False)
    except AlreadyRunning:
        return await check_each(settings, tell, serving=True)


async def check_each(settings: Settings, tell: Tell, *, serving: bool) -> int:
    async with opened(settings) as engine:
        problems = await check.damage(engine)
        if not problems:
            problems += await check.contradictions(engine)
            problems += await missing_files(engine, settings.spool)
            grace = settings.upload_grace if serving else 0.0
            problems += await orphans(engine, settings.spool, older_than=time.time() - grace)
            counted = await check.count(engine)
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
    needs = await check.needed_files(engine)
    suspects = {name: need for name, need in needs.items() if shorter(spool / name, need)}
    if suspects:
        still = await check.needed_files(engine)
        suspects = {name: need for name, need in suspects.items() if name in still}
    return [
        f"{spool / name}: missing or cut short: the open images of task {need.task_id} will end "
        "as FAILED; put the file back from a copy, or let the client send them again"
        for name, need in suspects.items()
    ]


def shorter(path: Path, need: Need) -> bool:
    return not path.is_file() or path.stat().st_size < need.size


async def orphans(engine: Engine, spool: Path, *, older_than: float) -> list[str]:
    """Files that no row owns; a young one may be of a request that is under way."""
    found = files_before(spool, older_than)
    owned = await needed_spool_names(engine)
    return [
        f"{path}: belongs to no task; the next start removes it"
        for path in found
        if path.name not in owned
    ]
