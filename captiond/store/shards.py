"""Imports in the database, and the listing of their images into shards.

Fifty million images are some 100,000 rows of shards. `shard_claims` has what happens to these.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Float,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from captiond.errors import ImportNotFound, SettingsError, TaskFinished
from captiond.jobs import Status
from captiond.store.deliveries import announce_import
from captiond.store.engine import Engine, reading, writing
from captiond.store.expressions import clock
from captiond.store.patience import repeated
from captiond.store.tables import ImportRow, ShardRow
from captiond.store.transitions import CANCELLED, COMPLETED, FAILED, OPEN, PENDING, PROCESSING

Form = Literal["jsonl", "parquet"]
CLAIM_SECONDS = 60.0
Neighbour = aliased(ImportRow)
IS_QUEUED = and_(ImportRow.queued.is_(True), ImportRow.status.in_(OPEN))
SECONDS = bindparam("seconds", type_=Float)


@dataclass(frozen=True, slots=True)
class NewImport:
    """An import that is to be made: what it lists, and where its results go.

    The service works at it if it is `queued`. Its end is posted to `callback_url`.
    """

    id: str
    sources: tuple[str, ...]
    column: str
    output: str
    form: Form
    shard_images: int
    created_at: float
    queued: bool = False
    callback_url: str | None = None

    @property
    def sources_text(self) -> str:
        return json.dumps({"sources": self.sources, "column": self.column})


@dataclass(frozen=True, slots=True)
class ImportState:
    """An import as it is now. Times are Unix seconds."""

    id: str
    status: Status
    created_at: float
    finished_at: float | None
    output: str
    sources: tuple[str, ...]
    column: str
    form: Form
    shard_images: int
    listed: bool
    last_address: str | None
    shards: int
    open_shards: int
    images: int
    captioned: int
    failed: int
    queued: bool = False
    problem: str | None = None

    @property
    def done(self) -> int:
        return self.captioned + self.failed


FIELDS = [getattr(ImportRow, name) for name in ImportState.__dataclass_fields__ if name != "column"]


def state_of(row: Any) -> ImportState:
    sources = json.loads(row.sources)
    fields = {**row._mapping, "status": Status(row.status), "column": sources["column"]}
    return ImportState(**{**fields, "sources": tuple(sources["sources"])})


# ---------------------------------------------------------------- an import as a whole


@repeated
async def join_import(engine: Engine, new: NewImport) -> ImportState:
    """Return the import that writes to this output. It is made if there is none.

    An import that is queued stays so. A new callback URL replaces that of an open import.

    Raises:
        SettingsError: there is one, of other sources or in another form.
        StoreError: It was not made.
    """
    async with writing(engine) as connection:
        query = select(*FIELDS).where(ImportRow.output == new.output)
        if (row := (await connection.execute(query)).one_or_none()) is not None:
            present = checked(state_of(row), new)
            if new.callback_url is not None:
                await set_callback_url(connection, present.id, new.callback_url)
            if not new.queued or present.queued:
                return present
            await enqueue(connection, present.id)
            return state_of((await connection.execute(query)).one())
        values = {
            "id": new.id,
            "status": PENDING,
            "created_at": new.created_at,
            "output": new.output,
            "sources": new.sources_text,
            "form": new.form,
            "shard_images": new.shard_images,
            "listed": False,
            "callback_url": new.callback_url,
        }
        await connection.execute(insert(ImportRow).values(values))
        if new.queued:
            await enqueue(connection, new.id)
        return state_of((await connection.execute(query)).one())


async def enqueue(connection: AsyncConnection, import_id: str) -> None:
    """Let the service work at an import. Its turn is the next one."""
    first = (
        select(func.coalesce(func.min(Neighbour.turn), 0))
        .where(Neighbour.queued.is_(True), Neighbour.status.in_(OPEN))
        .scalar_subquery()
    )
    queued = update(ImportRow).where(ImportRow.id == import_id)
    await connection.execute(queued.values(queued=True, turn=first))


async def set_callback_url(connection: AsyncConnection, import_id: str, url: str) -> None:
    """Let the end of an open import be posted to a URL."""
    is_open = (ImportRow.id == import_id) & ImportRow.status.in_(OPEN)
    await connection.execute(update(ImportRow).where(is_open).values(callback_url=url))


def checked(present: ImportState, new: NewImport) -> ImportState:
    wanted = new.sources, new.column, new.form
    if (present.sources, present.column, present.form) != wanted:
        raise SettingsError(
            f"{new.output}: it belongs to {present.id}, which is of other sources or in another "
            "format; choose another folder"
        )
    return present


async def other_output(engine: Engine, import_id: str, output: str) -> str | None:
    """Return the output of an import if it is not this one, and None if there is no such import."""
    query = select(ImportRow.output).where(ImportRow.id == import_id, ImportRow.output != output)
    async with reading(engine) as connection:
        return (await connection.execute(query)).scalar_one_or_none()


async def read_import(engine: Engine, import_id: str) -> ImportState:
    """Return an import.

    Raises:
        ImportNotFound: There is none of this id.
    """
    async with reading(engine) as connection:
        query = select(*FIELDS).where(ImportRow.id == import_id)
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise ImportNotFound(
            f"there is no import {import_id}; captiond imports list and GET /imports show their ids"
        )
    return state_of(row)


async def newest_imports(engine: Engine, limit: int) -> list[ImportState]:
    """Return the newest imports, the newest first."""
    query = select(*FIELDS).order_by(ImportRow.created_at.desc(), ImportRow.id.desc())
    async with reading(engine) as connection:
        return [state_of(row) for row in (await connection.execute(query.limit(limit))).all()]


@repeated
async def cancel_import(engine: Engine, import_id: str, now: float) -> None:
    """Cancel an import. The results of its finished shards stay.

    Raises:
        ImportNotFound: There is none of this id.
        TaskFinished: It is finished.
    """
    async with writing(engine) as connection:
        cancelled = await connection.execute(
            update(ImportRow)
            .where(ImportRow.id == import_id, ImportRow.status.in_(OPEN))
            .values(status=CANCELLED, finished_at=now, open_shards=0)
            .returning(ImportRow.callback_url)
        )
        if (row := cancelled.one_or_none()) is not None:
            open_shards = update(ShardRow).where(
                ShardRow.import_id == import_id, ShardRow.status.in_(OPEN)
            )
            await connection.execute(
                open_shards.values(status=CANCELLED, owner=None, addresses=None)
            )
            await announce_import(connection, import_id, row.callback_url, now)
            return
    present = await read_import(engine, import_id)
    if present.status is not Status.CANCELLED:
        raise TaskFinished(f"{import_id} is finished: {present.status.value}")


# ---------------------------------------------------------------- listing


@repeated
async def begin_listing(engine: Engine, import_id: str, lister: str) -> bool:
    """Let a process be the one that adds shards. Return whether it is.

    Another one is, or all are there, if it is not.
    """
    free = or_(
        ImportRow.lister.is_(None), ImportRow.lister == lister, ImportRow.lister_until < clock()
    )
    begin = (
        update(ImportRow)
        .where(ImportRow.id == import_id, ImportRow.listed.is_(False))
        .where(ImportRow.status.in_(OPEN), free)
        .values(lister=lister, lister_until=clock() + SECONDS)
    )
    async with writing(engine) as connection:
        return (await connection.execute(begin, {"seconds": CLAIM_SECONDS})).rowcount > 0


@repeated
async def add_shards(
    engine: Engine, import_id: str, lister: str, shards: Sequence[Sequence[str]]
) -> bool:
    """Add shards behind those that are there. Return whether the process is still the lister."""
    images = sum(map(len, shards))
    extend = (
        update(ImportRow)
        .where(
            ImportRow.id == import_id,
            # guard: one-lister
            ImportRow.lister == lister,
            ImportRow.listed.is_(False),
            ImportRow.status.in_(OPEN),
        )
        .values(
            status=PROCESSING,
            lister_until=clock() + SECONDS,
            last_address=mark_of(shards[-1][-1]),
            shards=ImportRow.shards + len(shards),
            open_shards=ImportRow.open_shards + len(shards),
            images=ImportRow.images + images,
        )
        .returning(ImportRow.shards)
    )
    async with writing(engine) as connection:
        after = (await connection.execute(extend, {"seconds": CLAIM_SECONDS})).scalar_one_or_none()
        if after is None:
            return False
        rows = [
            {
                "import_id": import_id,
                "number": number,
                "status": PENDING,
                "images": len(addresses),
                "addresses": packed(addresses),
            }
            for number, addresses in enumerate(shards, after - len(shards))
        ]
        await connection.execute(insert(ShardRow), rows)
        return True


@repeated
async def end_listing(engine: Engine, import_id: str, lister: str, now: float) -> None:
    """Note that all shards are there."""
    async with writing(engine) as connection:
        await connection.execute(
            update(ImportRow)
            .where(ImportRow.id == import_id, ImportRow.lister == lister)
            .values(listed=True, lister=None, lister_until=None)
        )
        await finish_import(connection, import_id, now)


def mark_of(address: str) -> str:
    """Return what `last_address` keeps of an address, which may be long or no valid text."""
    return hashlib.sha256(address.encode(errors="surrogatepass")).hexdigest()


def packed(addresses: Sequence[str]) -> str:
    """Return addresses as a text, compressed. They have beginnings in common."""
    return base64.b64encode(zlib.compress(json.dumps(addresses).encode(), 6)).decode()


def unpacked(content: str | None) -> tuple[str, ...]:
    return tuple(json.loads(zlib.decompress(base64.b64decode(content or ""))))


async def finish_import(connection: AsyncConnection, import_id: str, now: float) -> None:
    """Finish an import that has no open shards and gets no more, and announce its end."""
    finished = await connection.execute(
        update(ImportRow)
        .where(ImportRow.id == import_id, ImportRow.listed.is_(True))
        .where(ImportRow.open_shards == 0, ImportRow.status.in_(OPEN))
        .values(status=case((ImportRow.captioned > 0, COMPLETED), else_=FAILED), finished_at=now)
        .returning(ImportRow.callback_url)
    )
    if (row := finished.one_or_none()) is not None:
        await announce_import(connection, import_id, row.callback_url, now)
