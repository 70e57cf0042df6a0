"""PostgreSQL: connections, settings of a session, and how a few statements are written.

Only `postgres_errors` and this module know PostgreSQL; `sqlite` is their counterpart.

Transactions that write have the isolation level READ COMMITTED, and those that read REPEATABLE
READ: one snapshot. Transactions change tasks before images, and lock the rows of tasks and clients
in the order of their keys, so that two of them rarely wait for each other. Where they do, the
server ends one of them, and `patience.repeated` repeats it.

The driver is in its mode "autocommit", and each transaction begins with a statement of its own. So
a statement that needs no transaction takes one round trip.
"""

import asyncio
import random
import re
import select as polling
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, Executable, Insert, Select, Table, event, text
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects import postgresql as dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler

from captiond.databaseurl import DatabaseAddress
from captiond.store.backend import BEGIN, CHANNEL, NODES_CHANNEL, Phase, S
from captiond.store.expressions import DatabaseClock, EachItem, FieldOf, ItemOf, OneOf, Unindexed
from captiond.store.postgres_errors import as_store_errors

log = structlog.get_logger()
Driver = psycopg.AsyncConnection[tuple[Any, ...]]
OLDEST = 140_000  # PostgreSQL 14
TABLES_LOCK = 0x63617074696F6E64  # "captiond": the key of an advisory lock
LOCK_SECONDS = 10.0  # a transaction waits this long for a row; each holds it for milliseconds
# A process that is stopped in a transaction holds its locks. The server ends it after this time.
IDLE_SECONDS = 30.0
# A connection whose other end is gone is noticed after 10 + 3 * 5 seconds.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
UNANSWERED_MS = 25_000  # tcp_user_timeout
FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0  # seconds between two tries to connect
# What another try does not change. A server that speaks another language is tried again in vain.
PERMANENT = re.compile(r"authentication failed|pg_hba\.conf|does not exist|no password supplied")

# ---------------------------------------------------------------- connections


class Connector:
    """Opens connections, and tries again while the server starts or cannot be reached."""

    def __init__(self, address: DatabaseAddress) -> None:
        self._seconds = address.connect_seconds
        self._session = {
            "statement_timeout": milliseconds(address.statement_seconds),
            "lock_timeout": milliseconds(min(LOCK_SECONDS, address.statement_seconds)),
            "idle_in_transaction_session_timeout": milliseconds(IDLE_SECONDS),
            "jit": "off",  # takes longer than any statement here
            "random_page_cost": "1.1",  # of an SSD, or of memory: an index is the better choice
            "synchronous_commit": "on",  # an acknowledged commit survives a power cut
        }

    async def __call__(self, *arguments: Any, **options: Any) -> Driver:
        """Open a connection, and give it the settings of a session.

        Raises:
            psycopg.Error: There is none within `[database] connect_seconds`.
        """
        loop, delay = asyncio.get_running_loop(), FIRST_DELAY
        deadline = loop.time() + self._seconds
        while True:
            try:
                return await self._open(deadline - loop.time(), *arguments, **options)
            except psycopg.OperationalError as error:
                wait = delay * random.uniform(0.5, 1.0)
                if PERMANENT.search(str(error)) or loop.time() + wait >= deadline:
                    raise unreachable(error) from error
            await asyncio.sleep(wait)
            delay = min(LONGEST_DELAY, 2 * delay)

    async def _open(self, seconds: float, *arguments: Any, **options: Any) -> Driver:
        connection = await psycopg.AsyncConnection.connect(
            *arguments, autocommit=True, connect_timeout=max(2, round(seconds)), **options
        )
        settings = ", ".join("set_config(%s, %s, false)" for _ in self._session)
        values = [part for setting in self._session.items() for part in setting]
        try:
            await connection.execute(f"SELECT {settings}", values)
        except BaseException:
            await connection.close()
            raise
        return connection


class ServerUnreachable(psycopg.OperationalError):
    """No connection could be opened. The class of SQLSTATE 57P03, cannot_connect_now."""

    sqlstate = "57P03"


def unreachable(error: psycopg.OperationalError) -> ServerUnreachable:
    reason = " ".join(str(error).split())
    return ServerUnreachable(f"{reason}; check that the server runs, and [database] url")


def milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def connect_to(address: DatabaseAddress) -> AsyncEngine:
    """Return a pool of connections to a server. None is opened yet."""
    engine = create_async_engine(
        make_url(address.url).set(drivername="postgresql+psycopg"),
        pool_size=address.connections,
        max_overflow=0,
        pool_timeout=address.statement_seconds,
        use_native_hstore=False,
        connect_args={
            "async_creator_fn": Connector(address),
            "application_name": "captiond",
            "client_encoding": "utf8",
            "tcp_user_timeout": UNANSWERED_MS,
            **KEEPALIVES,
        },
    )
    event.listen(engine.sync_engine, "begin", begin)
    event.listen(engine.sync_engine, "checkout", replace_dead)
    return engine


def begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(BEGIN, "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)


def replace_dead(
    connection: DBAPIConnection, _record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Have the pool replace a connection that the server has closed while nobody used it.

    A server sends nothing to an idle connection but the end of it. Looking for that costs no round
    trip, and after a restart of the server no transaction fails by an old connection.

    Raises:
        DisconnectionError: the pool opens another connection.
    """
    driver = connection.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    # guard: dead-connections-replaced
    if driver.closed or is_readable(driver.fileno()):
        raise sqlalchemy_errors.DisconnectionError


def is_readable(descriptor: int) -> bool:
    poll = polling.poll()
    poll.register(descriptor, polling.POLLIN | polling.POLLHUP | polling.POLLERR)
    return bool(poll.poll(0))


# ---------------------------------------------------------------- statements


@compiles(DatabaseClock, "postgresql")
def write_clock(_element: DatabaseClock, _compiler: SQLCompiler, **_options: object) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(EachItem, "postgresql")
def write_each_item(element: EachItem, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_array_elements(CAST({compiler.process(element.clauses, **options)} AS json))"


@compiles(ItemOf, "postgresql")
def write_item(element: ItemOf, compiler: SQLCompiler, **options: Any) -> str:
    items, index = (compiler.process(each, **options) for each in element.clauses)
    return f"({items} ->> {index})"


@compiles(FieldOf, "postgresql")
def write_field(element: FieldOf, compiler: SQLCompiler, **options: Any) -> str:
    """Find the field in the text: a cast to json would fail for a damaged row, and for U+0000.

    A quotation mark inside of a JSON string has a backslash before it, so what looks like the name
    of a field is one.
    """
    document, name = (compiler.process(each, **options) for each in element.clauses)
    return f"""substring({document} FROM '"{name}":\\s*"([^"\\\\]*)"')"""


@compiles(Unindexed, "postgresql")
def write_unindexed(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(OneOf, "postgresql")
def write_one_of(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY(ARRAY{values})"


DRIVER_DIALECT: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # it has no types


class PostgresLanguage:
    """How PostgreSQL writes statements."""

    def insert_or_keep(self, table: type[Any] | Table) -> Insert:
        return dialect.insert(table).on_conflict_do_nothing()

    def insert_or_update(
        self,
        table: type[Any],
        columns: Sequence[str],
        rows: Select[*tuple[Any, ...]],
        *,
        key: str,
        changes: Callable[[Any], Mapping[str, object]],
    ) -> Insert:
        new = dialect.insert(table).from_select(columns, rows)
        return new.on_conflict_do_update(index_elements=[key], set_=changes(new.excluded))

    def choose(self, *, sqlite: S, postgresql: S) -> S:
        return postgresql

    def sql_of(self, statement: Executable) -> str:
        compiled = statement.compile(dialect=DRIVER_DIALECT)  # type: ignore[attr-defined]
        return str(compiled)


# ---------------------------------------------------------------- the database


class PostgresDatabase:
    """A database of a server. `captiond.store.backend.Database` describes the methods."""

    snapshot: Mapping[str, str] = {BEGIN: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}
    no_transaction: Mapping[str, str] = {BEGIN: ""}
    shared = True

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address
        self.turn: AbstractAsyncContextManager[object] = nullcontext()

    def connect(self) -> AsyncEngine:
        return connect_to(self.address)

    def as_store_errors(self, phase: Phase) -> AbstractContextManager[None]:
        return as_store_errors(phase)

    def version(self) -> object:
        return None

    async def lock_tables(self, connection: AsyncConnection) -> None:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=TABLES_LOCK)
        )

    async def checkpoint(self, connection: AsyncConnection) -> int:
        """Do nothing: the server runs checkpoints and autovacuum itself."""
        return 0

    async def quick_damage(self, connection: AsyncConnection) -> str | None:
        """Return why captiond cannot use the database, or None. The server checks its files."""
        settings = text(
            "SELECT current_setting('server_version_num')::int AS version, "
            "current_setting('server_encoding') AS encoding"
        )
        row = (await connection.execute(settings)).one()
        if row.version < OLDEST:
            return f"the server is older than PostgreSQL {OLDEST // 10_000}"
        if row.encoding != "UTF8":
            return f"its encoding is {row.encoding}; create the database with ENCODING 'UTF8'"
        return None

    async def damage(self, connection: AsyncConnection, limit: int) -> list[str]:
        """Return the faults of the indexes, if the extension amcheck is installed."""
        query = text("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'")
        if not (await connection.execute(query)).scalar_one():
            return []
        indexes = text(
            "SELECT c.oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' "
            "AND c.relnamespace = current_schema()::regnamespace"
        )
        check = text("SELECT bt_index_check(CAST(:oid AS oid))")
        problems: list[str] = []
        for row in (await connection.execute(indexes)).all():
            try:
                async with connection.begin_nested():
                    await connection.execute(check, {"oid": row.oid})
            except sqlalchemy_errors.DBAPIError as error:
                problems.append(f"{row.relname}: {error.orig}")
        return problems[:limit]

    async def size(self, connection: AsyncConnection) -> int:
        size = text("SELECT pg_database_size(current_database())")
        return int((await connection.execute(size)).scalar_one())

    async def notify(self, connection: AsyncConnection, texts: Sequence[str]) -> None:
        send = text("SELECT pg_notify(:channel, :text)")
        for each in texts:
            await connection.execute(send, {"channel": NODES_CHANNEL, "text": each})

    async def wakeups(self, engine: AsyncEngine) -> AsyncIterator[str]:
        """Listen on a connection of its own, which is opened again whenever it is lost.

        The first wake-up of each connection is for what was missed before it.
        """
        arguments, options = engine.dialect.create_connect_args(engine.url)
        connector = Connector(self.address)
        while True:
            try:
                async with await connector(*arguments, **{**options, **KEEPALIVES}) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    await connection.execute(f"LISTEN {NODES_CHANNEL}")
                    yield ""
                    async for notice in connection.notifies():
                        yield notice.payload
            except psycopg.Error as error:
                log.warning("listening_interrupted", reason=" ".join(str(error).split()))
            await asyncio.sleep(LONGEST_DELAY)
