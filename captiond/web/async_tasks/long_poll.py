"""A status request with `wait`: it is answered when there is news, or after so many seconds."""

import asyncio
import re

from starlette.datastructures import QueryParams

from captiond.errors import TaskNotFound
from captiond.jobs import TaskState
from captiond.web.async_tasks.status_response import number_of
from captiond.web.async_tasks.task_watch import TaskWatch
from captiond.web.problems import InvalidRequest

MOST_SECONDS = 60
REVISION = re.compile(r'\s*(?:W/)?"(\d{1,18})[^"]*"\s*')


def wait_of(query: QueryParams) -> int:
    """Return the seconds that a query asks to wait, 0 if it does not.

    Raises:
        InvalidRequest: `wait` is not a number, or out of range.
    """
    problems: list[dict[str, object]] = []
    seconds = number_of(query, "wait", 0, 0, MOST_SECONDS, problems)
    if problems:
        raise InvalidRequest(problems)
    return seconds


async def wait_for_news(watch: TaskWatch, task_id: str, known: str | None, seconds: float) -> None:
    """Return once a task is finished, `seconds` have passed, or the service stops.

    `known` is the If-None-Match of the request. If it has entity tags of the task's status, return
    as soon as the task is not in one of these states any more.

    Raises:
        TaskNotFound: There is no such task.
        TooManyWaiting: Too many clients wait already.
        StoreError: The database cannot be read now.
    """
    revisions = known_revisions(known)
    now = asyncio.get_running_loop().time
    deadline = now() + seconds
    async with watch.watching(task_id) as task:
        while (left := deadline - now()) > 0 and not task.stopping:
            if task.state is None:
                raise TaskNotFound("Task not found.")
            if is_news(task.state, revisions):
                return
            await task.change(left)


def is_news(state: TaskState, revisions: frozenset[int]) -> bool:
    """Return whether a client that knows these revisions of a task waits no longer."""
    return state.status.terminal or bool(revisions and state.revision not in revisions)


def known_revisions(known: str | None) -> frozenset[int]:
    """Return the revisions of a task in the entity tags of If-None-Match."""
    tags = (known or "").split(",")
    return frozenset(int(found[1]) for tag in tags if (found := REVISION.fullmatch(tag)))
