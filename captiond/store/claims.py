"""Images in the database as a queue: they are claimed, finished or released.

Each change of state is one UPDATE that carries its own guard, as `transitions` describes. A claim
raises the image's attempt, and only a result of the present attempt is stored.
"""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import (
    BigInteger,
    Float,
    Integer,
    String,
    Text,
    bindparam,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate, Update

from captiond.clients import Client
from captiond.deaths import BLAME_LIMIT
from captiond.errors import PoisonImage
from captiond.jobs import FinishedTask, Options, Outcome, Refused, SpooledImage, Status
from captiond.store.engine import Engine, writing
from captiond.store.expressions import rows_of
from captiond.store.finishing import count_closed
from captiond.store.leases import LEASE_SECONDS, hold, release_claims
from captiond.store.locks import lock_tasks_of, lock_tasks_of_images
from captiond.store.patience import repeated
from captiond.store.planned import ClaimedTask, lock_planned
from captiond.store.results import result_text
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.taking import ClaimedRow, take
from captiond.store.transitions import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    PROCESSING,
    STATE,
    image_may_become,
    image_moves,
    task_may_become,
)
from captiond.store.turns import Turn, move, next_images

# The transaction that stores results then raises the task's revision by one, see `count_closed`.
# guard: results-in-order
NEXT_REVISION = (
    select(TaskRow.revision + 1)
    .where(TaskRow.id == ImageRow.task_id)
    .correlate(ImageRow)
    .scalar_subquery()
)
OUTCOMES = rows_of(
    "outcomes", {"id": BigInteger(), "attempt": Integer(), "status": String(), "result": Text()}
)
FINISH = (
    update(ImageRow)
    .where(
        ImageRow.id == OUTCOMES.c.id,
        # guard: attempt-fence
        ImageRow.attempt == OUTCOMES.c.attempt,
        image_may_become(Status.COMPLETED, Status.FAILED),
    )
    .values(
        status=OUTCOMES.c.status,
        owner=None,
        result=OUTCOMES.c.result,
        revision=NEXT_REVISION,
    )
    .returning(ImageRow.id, ImageRow.task_id)
)
START = (
    update(TaskRow)
    .where(
        TaskRow.id.in_(bindparam("task_ids", expanding=True)), task_may_become(Status.PROCESSING)
    )
    .values(
        status=PROCESSING,
        revision=TaskRow.revision + 1,
        started_at=func.coalesce(TaskRow.started_at, bindparam("now", type_=Float)),
    )
)
# Rounds of a claim that bring nothing: the plan had images that other transactions have just taken.
MAX_IN_VAIN = 10
POISON = Refused.of(PoisonImage("the process that captioned this image died, more than once"))
UNREADABLE = Refused("what the task asked for cannot be read", "internal_error", 500)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed image. `attempt` fences its result. If `blame` is not 0, it is captioned alone.

    `accepted_at` is the Unix time at which its task was accepted.
    """

    image_id: int
    attempt: int
    blame: int
    image: SpooledImage
    options: Options
    client: Client
    task_id: str
    accepted_at: float


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """The outcome of one attempt at one image."""

    image_id: int
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought: images, and the spool files of tasks that failed in it.

    `failed` are the ids of those tasks, whose receivers are to be notified. `refused` has the
    outcomes of their images. It is `busy` if images may wait that were left out, because another
    transaction had locked their tasks.
    """

    claims: list[Claim]
    unneeded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Requeued:
    """The images that a dead process had claimed: those that wait again, and those that failed."""

    waiting: int
    refused: tuple[Refused, ...] = ()


@repeated
async def claim(
    engine: Engine, limit: int, *, owner: str, now: float, lease: float = LEASE_SECONDS
) -> Claimed:
    """Claim up to `limit` waiting images for a process, in fair turns (see `turns`).

    `owner` is `<node>/<process>`. Their tasks become PROCESSING, and the lease of the node is
    extended to `lease` seconds, all in one transaction. Images of a task whose options cannot be
    read become FAILED in the same transaction, and the next images take their places: fewer than
    `limit` claims mean that no image waits, unless it is `busy`.

    Raises:
        StoreError: Nothing was claimed.
    """
    claimed, rounds, in_vain = Claimed([]), 0, 0
    async with writing(engine) as connection:
        while len(claimed.claims) < limit and in_vain < MAX_IN_VAIN:
            before = len(claimed.claims) + len(claimed.refused)
            turn = await next_images(connection, limit - len(claimed.claims))
            if not turn.clients:
                break
            turn, tasks, busy = await lock_planned(connection, turn, wait=rounds == 0)
            if busy and not tasks:
                return replace(claimed, busy=True)
            claimed = await claim_turn(connection, turn, tasks, claimed, owner, now, lease)
            rounds += 1
            in_vain += before == len(claimed.claims) + len(claimed.refused)
    return claimed


async def claim_turn(
    connection: AsyncConnection,
    turn: Turn,
    tasks: Mapping[str, ClaimedTask],
    so_far: Claimed,
    owner: str,
    now: float,
    lease: float,
) -> Claimed:
    """Claim the images of one plan, as far as they wait. Return `so_far` with what it brought."""
    rows = await take(connection, turn, owner)
    await hold(connection, owner.partition("/")[0], lease)
    await start_tasks(connection, tasks, {row.task_id for row in rows}, now)
    await move(connection, turn, Counter(row.task_id for row in rows))
    readable, lost = sorted_out(in_order(rows, turn.images), tasks)
    finished = await store_results(connection, lost, now)
    ended = {row.task_id: finished.get(row.id) for row in rows if finished.get(row.id)}
    unneeded = [tasks[name].spool for name, task in ended.items() if task and not task.keeps_file]
    return Claimed(
        [*so_far.claims, *readable],
        [*so_far.unneeded, *unneeded],
        [*so_far.failed, *ended],
        [*so_far.refused, *[UNREADABLE] * len(finished)],
    )


def in_order(rows: Iterable[ClaimedRow], task_ids: Iterable[str]) -> Iterator[ClaimedRow]:
    """Yield the rows in the order of a plan, those of one task in the order of acceptance."""
    of_task: defaultdict[str, deque[ClaimedRow]] = defaultdict(deque)
    for row in sorted(rows, key=lambda row: row.id):
        of_task[row.task_id].append(row)
    for task_id in task_ids:
        if of_task[task_id]:
            yield of_task[task_id].popleft()


async def start_tasks(
    connection: AsyncConnection, tasks: Mapping[str, ClaimedTask], task_ids: set[str], now: float
) -> None:
    """Let the tasks be PROCESSING whose images were claimed."""
    if waiting := [task_id for task_id in task_ids if tasks[task_id].status != PROCESSING]:
        await connection.execute(START, {"task_ids": waiting, "now": now})


def sorted_out(
    rows: Iterable[ClaimedRow], tasks: Mapping[str, ClaimedTask]
) -> tuple[list[Claim], list[ImageOutcome]]:
    """Return the claims of these images, and the outcomes of those whose options are lost."""
    claims, lost = [], []
    for row in rows:
        task = tasks[row.task_id]
        if task.options is None:
            lost.append(ImageOutcome(row.id, row.attempt, UNREADABLE))
        else:
            image = SpooledImage(task.spool, row.offset, row.size, row.sha256 or "")
            claims.append(
                Claim(
                    row.id,
                    row.attempt,
                    row.blame,
                    image,
                    task.options,
                    task.client,
                    row.task_id,
                    task.accepted_at,
                )
            )
    return claims, lost


@repeated
async def finish(
    engine: Engine, results: Sequence[ImageOutcome], *, now: float
) -> dict[int, FinishedTask | None]:
    """Store the results of a batch in one transaction.

    Return the ids of the images whose results were stored, each with its task if that is finished
    now. A result is dropped if its attempt is not the image's present one, or if the image is not
    claimed any more: another process has claimed it, or it was cancelled.

    Raises:
        StoreError: Nothing was stored.
    """
    async with writing(engine) as connection:
        return await store_results(connection, results, now)


async def store_results(
    connection: AsyncConnection, results: Sequence[ImageOutcome], now: float
) -> dict[int, FinishedTask | None]:
    """Store results and finish their tasks, as `finish` describes."""
    if not results:
        return {}
    # guard: tasks-locked-before-results
    await lock_tasks_of_images(connection, [result.image_id for result in results])
    outcomes = json.dumps([finished_row(result) for result in results])
    stored = (await connection.execute(FINISH, {"outcomes": outcomes})).all()
    finished = await count_closed(connection, Counter(row.task_id for row in stored), now)
    return {row.id: finished.get(row.task_id) for row in stored}


def finished_row(result: ImageOutcome) -> tuple[int, int, str, str]:
    """Return one row of OUTCOMES."""
    status = FAILED if isinstance(result.outcome, Refused) else COMPLETED
    return result.image_id, result.attempt, status, result_text(result.outcome)


@repeated
async def requeue(
    engine: Engine, *, owner: str, now: float, blamed: Mapping[int, int] | None = None
) -> Requeued:
    """Release the claims of a process that has died.

    `blamed` holds points of blame by image id. An image that reaches BLAME_LIMIT fails as poison;
    the others wait for the next claim.

    Raises:
        StoreError: Nothing was released.
    """
    mine = ImageRow.owner == owner
    async with writing(engine) as connection:
        await lock_tasks_of(connection, mine & IN_PROGRESS)
        for image_id, points in (blamed or {}).items():
            await connection.execute(add_blame(image_id, points).where(mine))
        poisoned = (await connection.execute(fail_poison().where(mine))).scalars().all()
        await count_closed(connection, Counter(poisoned), now)
        return Requeued(await release_claims(connection, mine), (POISON,) * len(poisoned))


@repeated
async def disown(engine: Engine, *, owner: str, known: Collection[int]) -> int:
    """Release the claims of a living process that it does not know of. Return their number.

    The answer to a claim is lost with the connection, while the claim may have been carried out.
    `known` are the ids of the images that the process has.

    Raises:
        StoreError: Nothing was released.
    """
    unknown = (ImageRow.owner == owner) & IN_PROGRESS & ImageRow.id.not_in(known)
    async with writing(engine) as connection:
        await lock_tasks_of(connection, unknown)
        return await release_claims(connection, unknown)


def add_blame(image_id: int, points: int) -> Update:
    image = update(ImageRow).where(ImageRow.id == image_id, STATE == PROCESSING)
    return image.values(blame=ImageRow.blame + points)


def fail_poison() -> ReturningUpdate[str]:
    poison = update(ImageRow).where(
        image_moves(Status.PROCESSING, Status.FAILED, by_state=True), ImageRow.blame >= BLAME_LIMIT
    )
    result = type_coerce(result_text(POISON), Text)
    values = {"status": FAILED, "owner": None, "result": result, "revision": NEXT_REVISION}
    return poison.values(values).returning(ImageRow.task_id)
