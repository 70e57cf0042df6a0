"""Access to the database: every statement of captiond runs in a block of this module."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from captiond.databaseurl import DatabaseAddress
from captiond.store.backend import Database, Phase, database_at


@dataclass(frozen=True, slots=True)
class Engine:
    """A process's access to the database. Other packages pass it on and write no SQL."""

    sql: AsyncEngine
    database: Database

    async def dispose(self) -> None:
        """Close all connections."""
        await self.sql.dispose()

    async def wakeups(self) -> AsyncIterator[str]:
        """Yield what other processes say: a text of `notify`, or nothing if images may wait.

        End if no other process can say anything.
        """
        async for wakeup in self.database.wakeups(self.sql):
            yield wakeup


def make_engine(where: DatabaseAddress | Path) -> Engine:
    """Return an engine for a database, or for a file. Nothing is opened before it is used.

    Raises:
        StartupError: The driver of this database is not installed.
    """
    address = DatabaseAddress(where) if isinstance(where, Path) else where
    database = database_at(address)
    return Engine(database.connect(), database)


@asynccontextmanager
async def writing(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run the block in a transaction that writes. It is durable once the block has been left.

    Raises:
        StoreError: The transaction failed and changed nothing. Only if it is StoreUncertain, it may
            have been carried out.
    """
    phase = Phase()
    with engine.database.as_store_errors(phase):
        async with engine.database.turn, engine.sql.begin() as connection:
            yield connection
            phase.commits = True


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run the block in a transaction that reads one snapshot and never waits for a writer.

    Raises:
        StoreError: The database cannot be read now.
    """
    with engine.database.as_store_errors(Phase()):
        async with engine.sql.connect() as connection:
            await connection.execution_options(**engine.database.snapshot)
            async with connection.begin():
                yield connection


@asynccontextmanager
async def looking_up(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run one statement that reads. It sees one snapshot without a transaction around it.

    On a server, this saves two of three round trips.

    Raises:
        StoreError: The database cannot be read now.
    """
    async with outside_transaction(engine) as connection:
        yield connection


@asynccontextmanager
async def outside_transaction(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """Run the block on a connection for statements that must not be in a transaction.

    Raises:
        StoreError: The statements cannot be run now.
    """
    with engine.database.as_store_errors(Phase()):
        async with engine.sql.connect() as connection:
            await connection.execution_options(**engine.database.no_transaction)
            yield connection


async def notify(engine: Engine, texts: Sequence[str]) -> None:
    """Send texts to the other nodes. It is a hint, and may be lost.

    Raises:
        StoreError: They cannot be sent now.
    """
    async with outside_transaction(engine) as connection:
        await engine.database.notify(connection, texts)
