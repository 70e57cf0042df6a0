"""Images in the database as a queue: claimed, finished, put back.

As in `tasks`, every change of state is guarded within its transaction.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Text, func, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Update

from captiond.errors import PoisonImage
from captiond.jobs import BLAME_LIMIT, FinishedTask, Options, Outcome, Refused, SpooledImage, Status
from captiond.store.results import UNREADABLE_JSON, options_from_json, to_json
from captiond.store.sqlite import Engine, writing
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.tasks import PENDING, PROCESSING, end_if_done

# By the driver's own call, as INSERT_IMAGE of `tasks`: ten times as quick as through SQLAlchemy.
FINISH = "UPDATE images SET status = :status, owner = NULL, result = :result WHERE id = :id"


@dataclass(frozen=True, slots=True)
class Claim:
    """An image taken from the queue; `attempt` fences its result, `blame` makes it go alone."""

    image_id: int
    attempt: int
    blame: int
    image: SpooledImage
    options: Options


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """The outcome of one attempt at one image."""

    image_id: int
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Hand:
    """Who has an image: its present attempt."""

    attempt: int
    task_id: str


NOBODY = Hand(-1, "")
UNREADABLE = Refused("what the task asked for cannot be read", "internal_error", 500)


async def claim(engine: Engine, limit: int, *, owner: str, now: float) -> list[Claim]:
    """Take up to `limit` images, the longest accepted first; their tasks are PROCESSING with it.

    One of a task whose options cannot be read ends as FAILED instead.
    """
    waiting = (
        select(ImageRow.id)
        .where(ImageRow.status == PENDING)
        .order_by(ImageRow.id)
        .limit(limit)
        .scalar_subquery()
    )
    take = (
        update(ImageRow)
        .where(ImageRow.id.in_(waiting))
        .values(status=PROCESSING, attempt=ImageRow.attempt + 1, owner=owner)
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
    async with writing(engine) as connection:
        taken = (await connection.execute(take)).all()
        tasks = await start_tasks(connection, {row.task_id for row in taken}, now)
    claims, lost = [], []
    for row in taken:
        spool, options = tasks[row.task_id]
        if options is None:
            lost.append(ImageOutcome(row.id, row.attempt, UNREADABLE))
        else:
            image = SpooledImage(spool, row.offset, row.size, row.sha256)
            claims.append(Claim(row.id, row.attempt, row.blame, image, options))
    if lost:
        await finish(engine, lost, now=now)
    return sorted(claims, key=lambda claim: claim.image_id)


async def start_tasks(
    connection: AsyncConnection, task_ids: set[str], now: float
) -> dict[str, tuple[str, Options | None]]:
    """Let the tasks be PROCESSING; their spool files and options by their ids. Options are None
    that cannot be read: their row is damaged, or of a newer captiond.
    """
    start = (
        update(TaskRow)
        .where(TaskRow.id.in_(task_ids), TaskRow.status == PENDING)
        .values(status=PROCESSING, started_at=func.coalesce(TaskRow.started_at, now))
    )
    await connection.execute(start)
    asked = type_coerce(TaskRow.options, Text).label("asked")
    query = select(TaskRow.id, TaskRow.spool, asked).where(TaskRow.id.in_(task_ids))
    rows = await connection.execute(query)
    return {row.id: (row.spool or "", readable_options(row.asked)) for row in rows}


def readable_options(text: str | None) -> Options | None:
    try:
        return options_from_json(None if text is None else json.loads(text))
    except UNREADABLE_JSON:
        return None


async def finish(
    engine: Engine, results: Sequence[ImageOutcome], *, now: float
) -> dict[int, FinishedTask | None]:
    """Write the results of a batch in one transaction.

    The images whose results were taken, and what follows if their task ended with them. A result
    whose attempt is not the image's present one is dropped: somebody else has the image, or nobody
    wants it any more. Nothing changes between the look and the writing: a transaction that writes
    has the database to itself.
    """
    async with writing(engine) as connection:
        hands = await in_hand(connection, [result.image_id for result in results])
        taken = [
            result
            for result in results
            if hands.get(result.image_id, NOBODY).attempt == result.attempt
        ]
        if taken:
            await connection.exec_driver_sql(FINISH, [finished_row(result) for result in taken])
        tasks = {result.image_id: hands[result.image_id].task_id for result in taken}
        ended = await end_if_done(connection, set(tasks.values()), now)
    return {image_id: ended.get(task_id) for image_id, task_id in tasks.items()}


async def in_hand(connection: AsyncConnection, image_ids: Sequence[int]) -> dict[int, Hand]:
    """Those of these images that are being worked on, by their ids."""
    query = select(ImageRow.id, ImageRow.attempt, ImageRow.task_id)
    query = query.where(ImageRow.id.in_(image_ids), ImageRow.status == PROCESSING)
    rows = await connection.execute(query)
    return {row.id: Hand(row.attempt, row.task_id) for row in rows}


def finished_row(result: ImageOutcome) -> dict[str, object]:
    """The parameters of FINISH."""
    failed = isinstance(result.outcome, Refused)
    return {
        "id": result.image_id,
        "status": (Status.FAILED if failed else Status.COMPLETED).value,
        "result": json.dumps(to_json(result.outcome)),
    }


async def requeue(
    engine: Engine, *, now: float, owner: str | None = None, blamed: Mapping[int, int] | None = None
) -> int:
    """Put back what `owner` had in hand, or what anybody had; the number of images put back.

    `blamed` holds points of blame by image; an image that reaches BLAME_LIMIT ends as poison.
    """
    in_hand = update(ImageRow).where(ImageRow.status == PROCESSING)
    if owner is not None:
        in_hand = in_hand.where(ImageRow.owner == owner)
    async with writing(engine) as connection:
        put_back = await connection.execute(in_hand.values(status=PENDING, owner=None))
        for image_id, points in (blamed or {}).items():
            await connection.execute(add_blame(image_id, points))
        await end_poison(connection, (blamed or {}).keys(), now)
    return put_back.rowcount


def add_blame(image_id: int, points: int) -> Update:
    image = update(ImageRow).where(ImageRow.id == image_id, ImageRow.status == PENDING)
    return image.values(blame=ImageRow.blame + points)


async def end_poison(connection: AsyncConnection, image_ids: Collection[int], now: float) -> None:
    error = PoisonImage("the process that captions ends when it has this image in hand")
    poison = (
        update(ImageRow)
        .where(
            ImageRow.id.in_(image_ids), ImageRow.status == PENDING, ImageRow.blame >= BLAME_LIMIT
        )
        .values(status=Status.FAILED.value, result=to_json(Refused.of(error)))
        .returning(ImageRow.task_id)
    )
    task_ids = set((await connection.execute(poison)).scalars())
    await end_if_done(connection, task_ids, now)
