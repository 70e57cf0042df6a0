"""Interactive images that cross from a node without a model to one that has a model.

The node that asks inserts a row with the bytes of the image, and is notified when it has a result.
A claim is fenced like that of an image of a task: it raises the attempt, and only a result of the
present attempt by its owner is stored. The node that asks deletes the row, so a client that is gone
or a deadline ends the matter, whatever another node does.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Integer,
    RowMapping,
    String,
    Text,
    bindparam,
    delete,
    select,
    update,
)

from captiond.clients import Client
from captiond.jobs import Options, Outcome, Refused, Status
from captiond.store.backend import Statement
from captiond.store.engine import Engine, reading, writing
from captiond.store.expressions import rows_of
from captiond.store.patience import repeated
from captiond.store.results import (
    Unreadable,
    options_from,
    options_text,
    outcome_from,
    result_text,
)
from captiond.store.tables import AskRow
from captiond.store.transitions import COMPLETED, FAILED

MAX_ATTEMPTS = 2  # nodes that may die with an image; then its client is answered
ANSWERED = rows_of(
    "answered", {"id": String(), "attempt": Integer(), "status": String(), "result": Text()}
)
STORE_ANSWERS = (
    update(AskRow)
    .where(
        AskRow.id == ANSWERED.c.id,
        # guard: attempt-fence-of-asks
        AskRow.attempt == ANSWERED.c.attempt,
        AskRow.owner == bindparam("answerer"),
    )
    .values(status=ANSWERED.c.status, result=ANSWERED.c.result)
    .returning(AskRow.asker)
)
PUT = Statement(lambda sql: sql.insert_or_keep(AskRow))
RETURNED = rows_of("returned", {"id": String(), "attempt": Integer()})
RELEASE = (
    update(AskRow)
    .where(AskRow.id == RETURNED.c.id, AskRow.attempt == RETURNED.c.attempt)
    .where(AskRow.owner == bindparam("answerer"), AskRow.status.is_(None))
    .values(owner=None, attempt=AskRow.attempt - 1)
)


CLAIMED = (
    AskRow.id,
    AskRow.asker,
    AskRow.attempt,
    AskRow.created_at,
    AskRow.client,
    AskRow.weight,
    AskRow.sha256,
    AskRow.content,
)


@dataclass(frozen=True, slots=True)
class NewAsk:
    """An image that this node asks the others to caption. `content` are its bytes."""

    id: str
    created_at: float
    client: Client
    options: Options
    sha256: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ClaimedAsk:
    """An image of another node that this one captions. `attempt` fences its result."""

    id: str
    asker: str
    attempt: int
    created_at: float
    client: Client
    options: Options
    sha256: str
    content: bytes


@dataclass(frozen=True, slots=True)
class AskOutcome:
    """The outcome of one attempt at an image of another node."""

    id: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the images that a node has asked for.

    `outcomes` are by id, None for an image whose nodes have died too often. `open` are the ids of
    the other ones.
    """

    outcomes: dict[str, Outcome | None]
    open: frozenset[str]


@repeated
async def put(engine: Engine, asker: str, asks: Sequence[NewAsk]) -> None:
    """Insert images for other nodes to caption.

    Raises:
        StoreError: None was inserted.
    """
    rows = [
        {
            "id": ask.id,
            "asker": asker,
            "created_at": ask.created_at,
            "client": ask.client.name,
            "weight": ask.client.weight,
            "options": options_text(ask.options),
            "sha256": ask.sha256,
            "content": ask.content,
        }
        for ask in asks
    ]
    async with writing(engine) as connection:
        # An image whose commit was uncertain is sent again, and may be there.
        await connection.execute(PUT.on(connection), rows)


@repeated
async def claim(engine: Engine, limit: int, *, owner: str) -> list[ClaimedAsk]:
    """Claim up to `limit` images of other nodes, the oldest first.

    An image whose options cannot be read is left alone: a node of a newer version may read them.

    Raises:
        StoreError: None was claimed.
    """
    waiting = (
        select(AskRow.id)
        .where(AskRow.owner.is_(None), AskRow.status.is_(None), AskRow.attempt < MAX_ATTEMPTS)
        .order_by(AskRow.created_at, AskRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    columns = (AskRow.id, AskRow.options)
    async with writing(engine) as connection:
        rows = (await connection.execute(waiting.with_only_columns(*columns))).all()
        readable = {row.id: options for row in rows if (options := readable_options(row.options))}
        taken = update(AskRow).where(AskRow.id.in_(list(readable)))
        taken = taken.values(owner=owner, attempt=AskRow.attempt + 1)
        found = (await connection.execute(taken.returning(*CLAIMED))).mappings().all()
        claimed = [claimed_ask(row, readable[row["id"]]) for row in found]
    return sorted(claimed, key=lambda ask: (ask.created_at, ask.id))


def readable_options(text: str | None) -> Options | None:
    try:
        return options_from(text)
    except Unreadable:
        return None


def claimed_ask(row: RowMapping, options: Options) -> ClaimedAsk:
    client = Client(row["client"], row["weight"])
    same = {name: row[name] for name in ("id", "asker", "attempt", "created_at", "sha256")}
    return ClaimedAsk(client=client, options=options, content=bytes(row["content"]), **same)


@repeated
async def answer(engine: Engine, outcomes: Sequence[AskOutcome], *, owner: str) -> set[str]:
    """Store the outcomes of images that `owner` has claimed. Return the nodes that asked for them.

    An outcome is dropped if the image was given up, or claimed by another node since.

    Raises:
        StoreError: None was stored.
    """
    rows = [
        (each.id, each.attempt, status_of(each.outcome), result_text(each.outcome))
        for each in outcomes
    ]
    async with writing(engine) as connection:
        parameters = {"answered": json.dumps(rows), "answerer": owner}
        return set((await connection.execute(STORE_ANSWERS, parameters)).scalars())


def status_of(outcome: Outcome) -> str:
    return FAILED if isinstance(outcome, Refused) else COMPLETED


@repeated
async def release(engine: Engine, asks: Sequence[tuple[str, int]], *, owner: str) -> None:
    """Let other nodes caption images that `owner` has claimed, given by id and attempt.

    Raises:
        StoreError: None was released.
    """
    async with writing(engine) as connection:
        parameters = {"returned": json.dumps(asks), "answerer": owner}
        await connection.execute(RELEASE, parameters)


@repeated
async def disown(engine: Engine, *, owner: str, known: Collection[str]) -> None:
    """Let other nodes caption images that `owner` has claimed and does not know of.

    Raises:
        StoreError: None was released.
    """
    unknown = AskRow.status.is_(None) & AskRow.id.not_in(list(known))
    async with writing(engine) as connection:
        theirs = update(AskRow).where(AskRow.owner == owner, unknown)
        await connection.execute(theirs.values(owner=None, attempt=AskRow.attempt - 1))


async def answers(engine: Engine, asker: str) -> Answers:
    """Return what became of the images that a node has asked for.

    Raises:
        StoreError: They cannot be read now.
    """
    columns = (AskRow.id, AskRow.status, AskRow.result, AskRow.owner, AskRow.attempt)
    mine = select(*columns).where(AskRow.asker == asker)
    async with reading(engine) as connection:
        rows = (await connection.execute(mine)).all()
    outcomes: dict[str, Outcome | None] = {
        row.id: readable_outcome(row.status, row.result or "") for row in rows if row.status
    }
    lost = {row.id: None for row in rows if row.owner is None and row.attempt >= MAX_ATTEMPTS}
    ids = frozenset(row.id for row in rows)
    return Answers({**lost, **outcomes}, ids - outcomes.keys() - lost.keys())


def readable_outcome(status: str, text: str) -> Outcome:
    try:
        return outcome_from(Status(status), text)
    except Unreadable as error:
        return Refused.of(error)


@repeated
async def remove(engine: Engine, ids: Collection[str]) -> None:
    """Delete images that nobody needs captioned any more.

    Raises:
        StoreError: None was deleted.
    """
    async with writing(engine) as connection:
        await connection.execute(delete(AskRow).where(AskRow.id.in_(list(ids))))
