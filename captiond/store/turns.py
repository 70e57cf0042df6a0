"""Fair turns among the tasks that wait: `shares.plan` with its state in the database.

A task has a `turn` while an image of it waits; then its client `waits` as well. Of a million
waiting images, only the first tasks of the first clients are read, each by an index.

A client that begins to wait joins one of its images behind the client whose turn it is, and a task
one behind the first task of its client. If they joined at the virtual time itself, as in the paper,
an endless sequence of new clients or tasks with one image each would starve those that wait.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    ScalarSelect,
    Select,
    String,
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute, aliased

from captiond.queues.shares import WaitingClient, WaitingTask, plan
from captiond.store.backend import CHANNEL, Language, Statement
from captiond.store.expressions import one_of, rows_of
from captiond.store.locks import lock_clients, lock_tasks
from captiond.store.tables import ImageRow, TaskRow, TurnRow
from captiond.store.transitions import OPEN, TASK_STATE

# ---------------------------------------------------------------- beginning to wait

ENTERED = rows_of("entered", {"task_id": String()})
DELAY = bindparam("delay", type_=Float)
Sibling = aliased(TaskRow)
ENTERING = select(TaskRow.client).where(one_of(TaskRow.id, select(ENTERED.c.task_id))).distinct()
Entering = ENTERING.subquery("entering")
# One look-up for each client. For each task, PostgreSQL would go past the turns of all tasks that
# the same statement has given one.
FIRST_TURNS = select(
    Entering.c.client,
    select(func.min(Sibling.turn))
    .where(Sibling.client == Entering.c.client, Sibling.turn.is_not(None))
    .correlate(Entering)
    .scalar_subquery()
    .label("turn"),
).cte("first_turns")
ENTER_TASKS = (
    update(TaskRow)
    .where(one_of(TaskRow.id, select(ENTERED.c.task_id)), TASK_STATE.in_(OPEN))
    .where(TaskRow.turn.is_(None), TaskRow.client == FIRST_TURNS.c.client)
    .values(turn=func.coalesce(FIRST_TURNS.c.turn + DELAY * TaskRow.cost, 0.0))
)
Waiting = aliased(TurnRow)
FIRST_TURN = select(func.min(Waiting.turn)).where(Waiting.waits == true()).scalar_subquery()
COST = func.min(TaskRow.cost) / func.max(TaskRow.weight)
ARRIVAL = func.coalesce(FIRST_TURN, 0.0) + DELAY * COST
ENTERING_CLIENTS = (
    select(TaskRow.client, func.max(TaskRow.weight), ARRIVAL, true())
    .where(one_of(TaskRow.id, select(ENTERED.c.task_id)), TaskRow.turn.is_not(None))
    .group_by(TaskRow.client)
)
ENTER_CLIENTS = Statement(
    lambda sql: sql.insert_or_update(
        TurnRow,
        ("client", "weight", "turn", "waits"),
        ENTERING_CLIENTS,
        key="client",
        changes=lambda new: {
            "weight": new.weight,
            "turn": case(
                (and_(TurnRow.waits == false(), TurnRow.turn < new.turn), new.turn),
                else_=TurnRow.turn,
            ),
            "waits": true(),
        },
    )
)
# Other processes are notified once the transaction is committed.
NOTIFY = Statement(
    lambda sql: sql.choose(sqlite=None, postgresql=select(func.pg_notify(CHANNEL, "")))
)


async def enter(connection: AsyncConnection, task_ids: Iterable[str], *, new: bool) -> None:
    """Give turns to tasks that have waiting images, and to their clients. Others are left alone.

    Tasks that are not `new` have waited before: their images are requeued or retried. They were
    charged for them already, so they go first.
    """
    names = {*task_ids}
    if not names:
        return
    parameters = {"entered": json.dumps([[name] for name in names]), "delay": float(new)}
    if not new:
        await lock_tasks(connection, names)
    await connection.execute(ENTER_TASKS, parameters)
    await connection.execute(ENTER_CLIENTS.on(connection), parameters)
    if (notify := NOTIFY.on(connection)) is not None:
        await connection.execute(notify)


def waiting_after(
    task_id: ColumnElement[str] | InstrumentedAttribute[str], last: ColumnElement[int]
) -> ScalarSelect[int]:
    """Return the first waiting image of a task whose id is greater than `last`, or NULL.

    An EXISTS instead would make SQLite search all waiting images.
    """
    image = aliased(ImageRow)
    return (
        select(func.min(image.id))
        .where(image.task_id == task_id, image.status == literal_column("'PENDING'"))
        .where(image.id > last)
        .scalar_subquery()
    )


# ---------------------------------------------------------------- the next images

FEW_ROWS = 128
FIRST_CLIENTS = (
    select(TurnRow.client, TurnRow.weight, TurnRow.turn)
    .where(TurnRow.waits == true())
    .order_by(TurnRow.turn, TurnRow.id)
    .limit(bindparam("clients"))
)
CANDIDATES = rows_of("candidates", {"client": String()})
FIRST_OF_ONE = (
    select(
        Sibling.id,
        Sibling.client,
        Sibling.turn,
        Sibling.cost,
        Sibling.open_images,
        Sibling.created_at,
    )
    .where(Sibling.client == CANDIDATES.c.client, Sibling.turn.is_not(None))
    .order_by(Sibling.turn, Sibling.created_at)
    .limit(bindparam("each"))
    .correlate(CANDIDATES)
)


def first_tasks(sql: Language) -> Select[Any]:
    """Select the first waiting tasks of the CANDIDATES.

    SQLite has no LATERAL. Without it, PostgreSQL would read all tasks for each client.
    """
    ids = FIRST_OF_ONE.with_only_columns(Sibling.id)
    sqlite = select(
        TaskRow.id,
        TaskRow.client,
        TaskRow.turn,
        TaskRow.cost,
        TaskRow.open_images,
        TaskRow.created_at,
    ).join_from(CANDIDATES, TaskRow, TaskRow.id.in_(ids))
    of_one = FIRST_OF_ONE.lateral("of_one")
    postgresql = select(of_one).join_from(CANDIDATES, of_one, true())
    return sql.choose(
        sqlite=sqlite.order_by(TaskRow.turn, TaskRow.created_at),
        postgresql=postgresql.order_by(of_one.c.turn, of_one.c.created_at),
    )


FIRST_TASKS = Statement(first_tasks)


@dataclass(frozen=True, slots=True)
class Turn:
    """The images to claim next: the task's id for each, in order.

    `clients` are all that were considered, and `costs` has the cost of an image by task. `waiting`
    are the clients with the tasks that were considered for `limit` images.
    """

    images: Sequence[str]
    clients: Sequence[str]
    costs: Mapping[str, float]
    client_of: Mapping[str, str]
    waiting: Sequence[WaitingClient]
    limit: int

    def without(self, busy: Collection[str]) -> "Turn":
        """Return the turn in which other tasks take the places of those that are `busy`."""
        clients = (
            replace(client, tasks=tuple(task for task in client.tasks if task.id not in busy))
            for client in self.waiting
        )
        return replace(self, images=plan(clients, self.limit))


async def next_images(connection: AsyncConnection, limit: int) -> Turn:
    """Return whose turn it is, for `limit` images.

    The plan may hold images that do not wait any more. It has no clients only if no image waits.
    """
    clients = (await connection.execute(FIRST_CLIENTS, {"clients": limit})).all()
    names = [row.client for row in clients]
    tasks: defaultdict[str, list[WaitingTask]] = defaultdict(list)
    parameters = {
        "candidates": json.dumps([[name] for name in names]),
        "each": most_tasks(len(names), limit),
    }
    rows = (await connection.execute(FIRST_TASKS.on(connection), parameters)).all() if names else []
    for row in rows:
        # Whatever a damaged counter says, a task that is considered is in the plan: its turn ends
        # only with a plan. Without that, a claim would consider it again and again, for ever.
        task = WaitingTask(row.id, row.turn or 0.0, row.cost, max(1, row.open_images))
        tasks[row.client].append(task)
    waiting_clients = [
        WaitingClient(row.turn, row.weight, (*tasks[row.client],)) for row in clients
    ]
    return Turn(
        plan(waiting_clients, limit),
        names,
        {row.id: row.cost for row in rows},
        {row.id: row.client for row in rows},
        waiting_clients,
        limit,
    )


def most_tasks(clients: int, limit: int) -> int:
    """Return how many tasks of each client are read to plan `limit` images.

    Each may need `limit` of them. With several clients, that would be far too many rows, which take
    a fifth of a claim's time; twice the mean is enough. A client that needs more of them gets its
    other images by the next claim. Those that are not needed replace tasks that others have locked.
    """
    return max(min(limit, FEW_ROWS // max(1, clients)), 1 + 2 * limit // max(1, clients))


# ---------------------------------------------------------------- moving on

TAKEN = rows_of("taken", {"task_id": String(), "cost": Float()})
CHARGED = rows_of("charged", {"client": String(), "cost": Float()})
WAITS = waiting_after(TaskRow.id, literal_column("0", Integer)).is_not(None)
MOVE_TASKS = (
    update(TaskRow)
    .where(TaskRow.id == TAKEN.c.task_id)
    .values(turn=case((WAITS, TaskRow.turn + TAKEN.c.cost), else_=null()))
)
STILL_WAITS = exists().where(TaskRow.client == TurnRow.client, TaskRow.turn.is_not(None))
MOVE_CLIENTS = (
    update(TurnRow)
    .where(TurnRow.client == CHARGED.c.client)
    .values(
        turn=TurnRow.turn + CHARGED.c.cost / TurnRow.weight,
        waits=case((STILL_WAITS.correlate(TurnRow), true()), else_=false()),
    )
    .returning(TurnRow.waits)
)
WITHOUT_DEBT = and_(
    TurnRow.waits == false(), TurnRow.turn <= func.coalesce(FIRST_TURN, TurnRow.turn)
)
# Those that another transaction has locked are forgotten by a later one.
FREE = select(TurnRow.id).where(WITHOUT_DEBT).with_for_update(skip_locked=True)
FORGET = delete(TurnRow).where(TurnRow.id.in_(FREE))


async def move(connection: AsyncConnection, turn: Turn, taken: Counter[str]) -> None:
    """Charge tasks and clients for the images that were claimed, by task.

    Tasks and clients without waiting images lose their turns. Clients that have no waiting images
    and no debt are forgotten.
    """
    charges = dict.fromkeys(turn.clients, 0.0)
    for task_id, number in taken.items():
        charges[turn.client_of[task_id]] += number * turn.costs[task_id]
    moved = [(task_id, taken[task_id] * turn.costs[task_id]) for task_id in set(turn.images)]
    await connection.execute(MOVE_TASKS, {"taken": json.dumps(moved)})
    await charge(connection, charges)


async def charge(connection: AsyncConnection, costs: Mapping[str, float]) -> None:
    """Charge clients, and let those go that have no waiting images. `costs` may be 0."""
    await lock_clients(connection, costs.keys())
    moved = await connection.execute(MOVE_CLIENTS, {"charged": json.dumps([*costs.items()])})
    if not all(moved.scalars()):
        await connection.execute(FORGET)
