"""What captiond needs to know of a database: one interface for SQLite and for PostgreSQL.

`sqlite` and `postgres` implement it. Everything else in the store is the same for both.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Executable, Insert, Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from captiond.databaseurl import DatabaseAddress
from captiond.errors import StartupError

Progress = Callable[[int, int], None]
CHANNEL = "captiond_images"  # of NOTIFY: images wait
NODES_CHANNEL = "captiond_nodes"  # of NOTIFY: what nodes say to each other
BEGIN = "captiond_begin"  # the execution option that names the first statement of a transaction
NOTICE_BYTES = 7900  # PostgreSQL carries less than 8000
S = TypeVar("S")


@dataclass(slots=True)
class Phase:
    """How far a transaction is. Once it commits, a lost connection leaves its outcome open."""

    commits: bool = False


class Language(Protocol):
    """How a database writes the statements that SQLAlchemy does not write for every database."""

    def insert_or_keep(self, table: type[Any] | Table) -> Insert:
        """Return an INSERT that leaves a row alone if one with the same key exists."""

    def insert_or_update(
        self,
        table: type[Any],
        columns: Sequence[str],
        rows: Select[*tuple[Any, ...]],
        *,
        key: str,
        changes: Callable[[Any], Mapping[str, object]],
    ) -> Insert:
        """Return an INSERT of the rows of a query, which changes a row that has the same `key`.

        `changes` gets the columns of the row that cannot be inserted, and returns the new values.
        """

    def choose(self, *, sqlite: S, postgresql: S) -> S:
        """Return the one of two values that is for this database."""

    def sql_of(self, statement: Executable) -> str:
        """Return the text of a statement with named parameters, as the driver takes them."""


class Database(Protocol):
    """A database, and what is special about it."""

    @property
    def address(self) -> DatabaseAddress:
        """Where it is."""

    @property
    def snapshot(self) -> Mapping[str, str]:
        """The execution options of a transaction that reads one snapshot."""

    @property
    def no_transaction(self) -> Mapping[str, str]:
        """The execution options of statements that must not be in a transaction."""

    @property
    def turn(self) -> AbstractAsyncContextManager[object]:
        """What a writer enters before its transaction."""

    @property
    def shared(self) -> bool:
        """Whether processes of other hosts may use the database at the same time."""

    def connect(self) -> AsyncEngine:
        """Return a pool of connections. None is opened yet."""

    def as_store_errors(self, phase: Phase) -> AbstractContextManager[None]:
        """Raise the errors of the driver and of the pool in the block as StoreErrors."""

    def version(self) -> object:
        """Return a value that is another one after each change, or None if only queries show those.

        It may also be another one without a change.
        """

    async def lock_tables(self, connection: AsyncConnection) -> None:
        """Let no other process change the tables themselves until the transaction ends."""

    async def checkpoint(self, connection: AsyncConnection) -> int:
        """Do the maintenance that is due. Return the number of pages that only the log holds."""

    async def quick_damage(self, connection: AsyncConnection) -> str | None:
        """Return the first damage that a quick check finds, or what makes it useless, or None."""

    async def damage(self, connection: AsyncConnection, limit: int) -> list[str]:
        """Return up to `limit` faults of each kind that a thorough check finds."""

    async def size(self, connection: AsyncConnection) -> int:
        """Return its size in bytes."""

    def wakeups(self, engine: AsyncEngine) -> AsyncIterator[str]:
        """Yield what other processes say: a text of `notify`, or nothing if images may wait."""

    async def notify(self, connection: AsyncConnection, texts: Sequence[str]) -> None:
        """Send texts, each of NOTICE_BYTES at most, to all that listen, as far as there are any."""


class Statement(Generic[S]):
    """A statement that each database writes in its own way. It is made when it is first used."""

    def __init__(self, make: Callable[[Language], S]) -> None:
        self._make = make
        self._made: dict[str, S] = {}

    def on(self, connection: AsyncConnection) -> S:
        """Return the statement for the database of this connection."""
        name = connection.dialect.name
        if name not in self._made:
            self._made[name] = self._make(language_of(name))
        return self._made[name]


async def execute_many(
    connection: AsyncConnection, statement: Executable, rows: Sequence[Mapping[str, object]]
) -> None:
    """Run a statement once for each row, as one call of the driver.

    SQLAlchemy converts the parameters of each row, which takes ten times as long as the row's
    INSERT. Here nothing is converted: a value for a JSON column must be text. `statement` must be
    a constant, since its SQL is cached.
    """
    if rows:
        await connection.exec_driver_sql(sql_of(connection.dialect.name, statement), rows)


@lru_cache(maxsize=64)
def sql_of(database: str, statement: Executable) -> str:
    return language_of(database).sql_of(statement)


@cache
def language_of(name: str) -> Language:
    """Return how a database writes statements, by the name that SQLAlchemy has for it."""
    if name == "sqlite":
        from captiond.store import sqlite

        return sqlite.SqliteLanguage()
    from captiond.store import postgres

    return postgres.PostgresLanguage()


def database_at(address: DatabaseAddress) -> Database:
    """Return the database at an address.

    Raises:
        StartupError: It is one of PostgreSQL, and its driver is not installed.
    """
    if not address.is_server:
        from captiond.store import sqlite

        return sqlite.SqliteDatabase(address)
    try:
        import psycopg
    except ImportError as error:
        raise StartupError(
            f"{address}: PostgreSQL needs the extra captiond[postgres]: run pip install "
            f"'captiond[postgres]' ({error})"
        ) from None
    from captiond.store import postgres

    assert psycopg
    return postgres.PostgresDatabase(address)
