"""Access to the database: every statement of captiond runs in a block of this module."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from captiond.store import sqlite


@dataclass(frozen=True, slots=True)
class Engine:
    """A process's access to the database. Other packages pass it on and write no SQL.

    The writers of a process queue for `turn`. The database's own lock is polled, which is neither
    fair nor quick with many waiters.
    """

    sql: AsyncEngine
    turn: asyncio.Lock

    async def dispose(self) -> None:
        """Close all connections."""
        await self.sql.dispose()


def make_engine(database: Path) -> Engine:
    """Return an engine for a database file. No file is opened before the first statement."""
    return Engine(sqlite.connect_to(database), asyncio.Lock())


@asynccontextmanager
async def writing(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run the block in a transaction that writes. It is durable once the block has been left.

    Raises:
        StoreError: The transaction failed and changed nothing.
    """
    with sqlite.as_store_errors():
        async with engine.turn, engine.sql.begin() as connection:
            yield connection


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run the block in a transaction that reads one snapshot and never waits for a writer.

    Raises:
        StoreError: The database cannot be read now.
    """
    with sqlite.as_store_errors():
        async with engine.sql.connect() as connection:
            await connection.execution_options(**sqlite.READ)
            async with connection.begin():
                yield connection


@asynccontextmanager
async def outside_transaction(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run the block on a connection for statements that must not be in a transaction.

    Raises:
        StoreError: The statements cannot be run now.
    """
    with sqlite.as_store_errors():
        async with engine.sql.connect() as connection:
            await connection.execution_options(**sqlite.NO_TRANSACTION)
            yield connection
