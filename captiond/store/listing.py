"""Lists of tasks with the numbers of their images, the newest task first."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import tuple_

from captiond.jobs import Status, TaskCounts, TaskState
from captiond.store.engine import Engine, reading
from captiond.store.snapshots import STATES, counts, task_state
from captiond.store.tables import TaskRow


class ListPlace(NamedTuple):
    """The place of a task in a list. The task itself need not exist any more."""

    created_at: float
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task without its images, and their numbers."""

    state: TaskState
    counts: TaskCounts

    @property
    def place(self) -> ListPlace:
        """Where this task stands in a list."""
        return ListPlace(self.state.created_at, self.state.id)


async def newest_tasks(
    engine: Engine,
    limit: int,
    status: Status | None = None,
    *,
    client: str | None = None,
    after: ListPlace | None = None,
) -> list[TaskSummary]:
    """Return up to `limit` tasks, the last accepted first.

    If they are set, only tasks in the state `status`, of the client of this name, and that follow
    the place `after` are returned. Each combination has its index.

    Raises:
        StoreError: They cannot be read now.
    """
    order = TaskRow.created_at, TaskRow.id
    chosen = STATES.order_by(*(column.desc() for column in order)).limit(limit)
    if status is not None:
        chosen = chosen.where(TaskRow.status == status.value)
    if client is not None:
        chosen = chosen.where(TaskRow.client == client)
    if after is not None:
        chosen = chosen.where(tuple_(*order) < tuple_(*after))
    async with reading(engine) as connection:
        states = [task_state(row) for row in (await connection.execute(chosen)).all()]
        numbers = await counts(connection, [state.id for state in states])
    return [TaskSummary(state, numbers[state.id]) for state in states]
