"""Finishes a task when its last open image gets a result.

The number of open images is a column of the task. A scan of the images for each batch instead
would take time that grows with the square of their number.
"""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import (
    Float,
    Integer,
    String,
    and_,
    bindparam,
    case,
    exists,
    null,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from captiond.jobs import RETRYABLE, FinishedTask, Status
from captiond.store.deliveries import announce
from captiond.store.expressions import json_field, rows_of
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.transitions import COMPLETED, FAILED, STATE, image_moves, task_may_become


def retryable() -> ColumnElement[bool]:
    """Return the condition that an image failed for a reason that another try may not meet."""
    code = json_field(ImageRow.result, "code")
    return and_(image_moves(Status.FAILED, Status.PENDING), code.in_(sorted(RETRYABLE)))


def has_image(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that the task of the enclosing statement has such an image."""
    return exists().where(ImageRow.task_id == TaskRow.id, which).correlate(TaskRow)


CLOSED = rows_of("closed", {"task_id": String(), "number": Integer()})
COUNT_DOWN = (
    update(TaskRow)
    .where(TaskRow.id == CLOSED.c.task_id)
    .values(open_images=TaskRow.open_images - CLOSED.c.number, revision=TaskRow.revision + 1)
    .returning(TaskRow.id, TaskRow.open_images)
)
FINISH_TASKS = (
    update(TaskRow)
    .where(
        TaskRow.id.in_(bindparam("task_ids", expanding=True)),
        TaskRow.open_images == 0,
        task_may_become(Status.COMPLETED, Status.FAILED),
    )
    .values(
        status=case((has_image(STATE == COMPLETED), COMPLETED), else_=FAILED),
        finished_at=bindparam("now", type_=Float),
        spool=case((has_image(retryable()), TaskRow.spool), else_=null()),
    )
    .returning(TaskRow.id, TaskRow.spool, TaskRow.callback_url)
)


async def count_closed(
    connection: AsyncConnection, closed: Mapping[str, int], now: float
) -> dict[str, FinishedTask]:
    """Subtract images that are open no more from the counters of their tasks.

    `closed` holds the numbers by task id. Tasks without open images are finished: COMPLETED with
    one caption or more, FAILED without. Return those by their ids.
    """
    if not closed:
        return {}
    counters = await connection.execute(COUNT_DOWN, {"closed": json.dumps([*closed.items()])})
    empty = [task_id for task_id, number in counters if number == 0]
    return await finish_tasks(connection, empty, now) if empty else {}


async def finish_tasks(
    connection: AsyncConnection, task_ids: Sequence[str], now: float
) -> dict[str, FinishedTask]:
    finished = (await connection.execute(FINISH_TASKS, {"task_ids": task_ids, "now": now})).all()
    for row in finished:
        await announce(connection, row.id, row.callback_url, now)
    return {row.id: FinishedTask(keeps_file=row.spool is not None) for row in finished}
