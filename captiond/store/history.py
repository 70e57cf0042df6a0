"""The results of a task in parts: in the order in which they were stored, or in upload order.

A task of 10,000 images is never read as a whole here. Each part is found by an index from where
the last one ended.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Row, Select, Text, literal_column, select, tuple_, type_coerce

from captiond.store.engine import Engine, looking_up, reading
from captiond.store.tables import ImageRow
from captiond.store.transitions import COMPLETED, FAILED, STATE

# Revision, position, file name, hash, status, result as JSON text.
StoredResult = Row[int, int, str, str | None, str, str]


class Place(NamedTuple):
    """The place of a result among those of its task: (0, 3) is before (1, 0).

    The results that one transaction stored have the same revision of the task. Files that were
    refused at upload have 0, and so have results of earlier versions.
    """

    revision: int
    position: int


START = Place(0, -1)


async def results_after(
    engine: Engine, task_id: str, place: Place, *, limit: int
) -> Sequence[StoredResult]:
    """Return the results that follow `place` in the order of storing, at most `limit` of them.

    The order never changes: a later result has a later place. A result that a retry has removed is
    left out.

    Raises:
        StoreError: The database cannot be read now.
    """
    rows: list[StoredResult] = []
    async with reading(engine) as connection:
        if place.revision == 0:
            rows += (await connection.execute(at_upload(task_id, place.position, limit))).all()
        if len(rows) < limit:
            query = stored_after(task_id, place, limit - len(rows))
            rows += (await connection.execute(query)).all()
    return rows


async def results_from(
    engine: Engine, task_id: str, position: int, *, revision: int, limit: int
) -> Sequence[StoredResult]:
    """Return results in upload order from a position on, at most `limit` of them.

    Results that were stored after the task had this `revision` are left out.

    Raises:
        StoreError: The database cannot be read now.
    """
    query = results_of(task_id).where(
        ImageRow.position >= position, ImageRow.revision + 0 <= revision
    )
    async with looking_up(engine) as connection:
        rows = await connection.execute(query.order_by(ImageRow.position).limit(limit))
        return rows.all()


def at_upload(
    task_id: str, position: int, limit: int
) -> Select[int, int, str, str | None, str, str]:
    """Select results whose revision is 0. An expression keeps SQLite from the other index."""
    query = results_of(task_id).where(ImageRow.revision + 0 == 0, ImageRow.position > position)
    return query.order_by(ImageRow.position).limit(limit)


def stored_after(
    task_id: str, place: Place, limit: int
) -> Select[int, int, str, str | None, str, str]:
    """Select results by their index, which has those of a revision above 0."""
    order = ImageRow.revision, ImageRow.position
    query = results_of(task_id).where(
        ImageRow.revision > literal_column("0"), tuple_(*order) > tuple_(*place)
    )
    return query.order_by(*order).limit(limit)


def results_of(task_id: str) -> Select[int, int, str, str | None, str, str]:
    """Select the fields of a StoredResult, of finished images."""
    return select(
        ImageRow.revision,
        ImageRow.position,
        ImageRow.filename,
        ImageRow.sha256,
        ImageRow.status,
        type_coerce(ImageRow.result, Text),
    ).where(ImageRow.task_id == task_id, STATE.in_((COMPLETED, FAILED)))
