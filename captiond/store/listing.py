"""Lists of tasks with the numbers of their images, the newest task first."""

from dataclasses import dataclass

from sqlalchemy import Select, case, func, select

from captiond.jobs import Status
from captiond.store.engine import Engine, reading
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.transitions import FAILED, OPEN


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task without its images. Times are Unix seconds.

    `done` counts the finished images, and `failed` those of them that have no caption.
    """

    id: str
    status: Status
    created_at: float
    finished_at: float | None
    total: int
    done: int
    failed: int


async def newest_tasks(engine: Engine, limit: int, status: Status | None) -> list[TaskSummary]:
    """Return up to `limit` tasks, the last accepted first.

    If `status` is set, only tasks in this state are returned.

    Raises:
        StoreError: They cannot be read now.
    """
    chosen = select(TaskRow.id, TaskRow.status, TaskRow.created_at, TaskRow.finished_at)
    if status is not None:
        chosen = chosen.where(TaskRow.status == status.value)
    chosen = chosen.order_by(TaskRow.created_at.desc(), TaskRow.id.desc()).limit(limit)
    async with reading(engine) as connection:
        rows = (await connection.execute(chosen)).all()
        query = counts().where(ImageRow.task_id.in_([row.id for row in rows]))
        numbers = {row.task_id: row for row in await connection.execute(query)}
    return [
        TaskSummary(
            id=row.id,
            status=Status(row.status),
            created_at=row.created_at,
            finished_at=row.finished_at,
            total=numbers[row.id].total,
            done=numbers[row.id].done,
            failed=numbers[row.id].failed,
        )
        for row in rows
    ]


def counts() -> Select[str, int, int, int]:
    """Return the query for the numbers of a task's images: all, finished, failed."""
    finished = ImageRow.status.not_in(OPEN)
    failed = ImageRow.status == FAILED
    return select(
        ImageRow.task_id,
        func.count().label("total"),
        func.count(case((finished, 1))).label("done"),
        func.count(case((failed, 1))).label("failed"),
    ).group_by(ImageRow.task_id)
