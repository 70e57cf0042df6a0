"""The statement that takes images from the queue: each database has its own quick way."""

import json
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    Row,
    String,
    bindparam,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningUpdate

from captiond.jobs import Status
from captiond.store.backend import Statement
from captiond.store.expressions import rows_of
from captiond.store.tables import ImageRow
from captiond.store.transitions import PROCESSING, image_moves
from captiond.store.turns import Turn, waiting_after

ClaimedRow = Row[int, int, int, str, int, int, str | None]
Taking = ReturningUpdate[int, int, int, str, int, int, str | None]
WAITING = image_moves(Status.PENDING, Status.PROCESSING)
WANTED = rows_of("wanted", {"task_id": String(), "number": Integer()})


def walk() -> CTE:
    """Return the first waiting images of the WANTED tasks, each found by an index from the last.

    A window function would read all waiting images of the tasks.
    """
    first = waiting_after(WANTED.c.task_id, literal_column("0", Integer))
    begin = select(WANTED.c.task_id, WANTED.c.number.label("left"), first.label("id"))
    step = begin.cte("walk", recursive=True)
    following = waiting_after(step.c.task_id, step.c.id)
    more = select(step.c.task_id, step.c.left - 1, following).where(
        step.c.left > 1, step.c.id.is_not(None)
    )
    return step.union_all(more)


def unlocked() -> ColumnElement[bool]:
    """Return the condition that an image is one of the first of its task that nobody has locked.

    An array lets the server find each image by its key, whatever it expects of their number.
    """
    image = aliased(ImageRow)
    first = (
        select(image.id)
        .where(image.task_id == WANTED.c.task_id, image.status == literal_column("'PENDING'"))
        .order_by(image.id)
        .limit(WANTED.c.number)
        .correlate(WANTED)
        .with_for_update(skip_locked=True)
        .lateral("first")
    )
    ids = select(first.c.id).select_from(WANTED).join(first, true())
    return ImageRow.id == func.any(func.array(ids.scalar_subquery()))


def take_where(chosen: ColumnElement[bool]) -> Taking:
    return (
        update(ImageRow)
        # The second guard matters where transactions run side by side: another one may have
        # claimed an image that the subquery selected.
        .where(chosen, WAITING)
        .values(status=PROCESSING, attempt=ImageRow.attempt + 1, owner=bindparam("claimant"))
        .returning(
            ImageRow.id,
            ImageRow.attempt,
            ImageRow.blame,
            ImageRow.task_id,
            ImageRow.offset,
            ImageRow.size,
            ImageRow.sha256,
        )
    )


TAKE = Statement(
    lambda sql: take_where(
        sql.choose(sqlite=ImageRow.id.in_(select(walk().c.id)), postgresql=unlocked())
    )
)


async def take(connection: AsyncConnection, turn: Turn, owner: str) -> Sequence[ClaimedRow]:
    """Claim the images of a plan, without their tasks."""
    if not turn.images:
        return ()
    wanted = json.dumps([*Counter(turn.images).items()])
    parameters = {"wanted": wanted, "claimant": owner}
    return (await connection.execute(TAKE.on(connection), parameters)).all()
