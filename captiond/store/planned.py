"""The tasks of a claim's plan, which are locked before their images are claimed.

SQLite ignores the locks: a transaction that writes has the whole file to itself.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, bindparam, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.clients import Client
from captiond.jobs import Options
from captiond.store.results import Unreadable, options_from
from captiond.store.tables import TaskRow
from captiond.store.turns import Turn

TASKS = select(
    TaskRow.id,
    TaskRow.status,
    TaskRow.spool,
    TaskRow.client,
    TaskRow.weight,
    TaskRow.created_at,
    type_coerce(TaskRow.options, Text).label("options"),
).where(TaskRow.id.in_(bindparam("task_ids", expanding=True)))
LOCKED = TASKS.order_by(TaskRow.id).with_for_update(key_share=True)
FREE = TASKS.order_by(TaskRow.id).with_for_update(key_share=True, skip_locked=True)


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """What the images of a task have in common. `options` is None if they cannot be read."""

    spool: str
    client: Client
    options: Options | None
    accepted_at: float
    status: str


async def lock_planned(
    connection: AsyncConnection, turn: Turn, *, wait: bool
) -> tuple[Turn, dict[str, ClaimedTask], bool]:
    """Lock the tasks of a turn. Return what it is then, the tasks, and whether some are busy.

    Tasks that another transaction has locked are not waited for: it may be as long as a commit
    takes. Others take their places, and they keep their turns for the next claim. If no other task
    waits, they are waited for if `wait`. A transaction that holds locks must not do so, because two
    could wait for each other.
    """
    tasks, busy = dict[str, ClaimedTask](), set[str]()
    free = turn
    while missing := set(free.images) - tasks.keys():
        tasks |= await planned_tasks(connection, missing, FREE)
        if locked_by_others := missing - tasks.keys():
            busy |= locked_by_others
            free = turn.without(busy)
    if busy and not tasks and wait:
        return turn, await planned_tasks(connection, set(turn.images), LOCKED), False
    return free, tasks, bool(busy)


async def planned_tasks(
    connection: AsyncConnection, task_ids: Collection[str], query: Select[*tuple[Any, ...]]
) -> dict[str, ClaimedTask]:
    """Return what a claim needs of the tasks of a plan, by their ids. They stay as they are."""
    if not task_ids:
        return {}
    rows = await connection.execute(query, {"task_ids": [*task_ids]})
    return {
        row.id: ClaimedTask(
            row.spool or "",
            Client(row.client, row.weight),
            readable_options(row.options),
            row.created_at,
            row.status,
        )
        for row in rows
    }


def readable_options(text: str | None) -> Options | None:
    try:
        return options_from(text)
    # guard: damaged-options
    except Unreadable:
        return None
