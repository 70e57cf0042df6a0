"""Copies a database into another one, of the same kind or of the other.

The copy goes from table to table, in transactions of a few thousand rows, and can be interrupted
at any moment: the next call continues. A row in the target says that it is not whole yet; no
service starts on it before the copy is complete and its numbers have been compared.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Numeric,
    Table,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    select,
    text,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.errors import CopyFailed
from captiond.store.backend import Statement, execute_many
from captiond.store.clocks import set_reached
from captiond.store.columns import JsonText
from captiond.store.engine import Engine, reading, writing
from captiond.store.expressions import clock
from captiond.store.migrate import UNFINISHED_COPY, check_revision, copy_under_way, prepare_tables
from captiond.store.results import storable
from captiond.store.tables import AskRow, ClockRow, NodeRow
from captiond.store.tables import Table as Mapped

Progress = Callable[[str, int, int], None]  # table, rows that are copied, all rows
ROWS = 2000  # in one transaction
# A lease is about a process that runs. The claims of a node without one wait again at a start.
LEFT_OUT = (NodeRow.__table__, AskRow.__table__)


def copied_tables() -> list[Table]:
    """Return the tables to copy, each after those that its rows refer to."""
    return [table for table in Mapped.metadata.sorted_tables if table not in LEFT_OUT]


async def copy_database(source: Engine, target: Engine, progress: Progress) -> dict[str, int]:
    """Copy all rows, and compare the numbers. Return the number of rows of each table.

    No service may use one of the two.

    Raises:
        CopyFailed: A service uses one of them, the target has other rows, or the copies differ.
        DatabaseUnusable: The source has tables of another version.
        StoreError: One of them cannot be read or written now. What was copied stays.
    """
    await check_revision(source)
    await refuse_living_nodes(source)
    await prepare_tables(target)
    await refuse_living_nodes(target)
    await begin(target, marker_of(source))
    async with reading(source) as connection:
        for table in copied_tables():
            await copy_table(connection, target, table, progress)
    counts = await compare(source, target)
    await refuse_living_nodes(source)
    await finish(target)
    return counts


def marker_of(source: Engine) -> str:
    """Return the name of the row that says whose unfinished copy the target is."""
    digest = hashlib.sha256(str(source.database.address).encode()).hexdigest()
    return f"{UNFINISHED_COPY}{digest[:16]}"


async def refuse_living_nodes(engine: Engine) -> None:
    """Return if no service on any host uses a database. The caller has locked its own data folder.

    A database that cannot be shared is used by the service of this folder only.
    """
    if not engine.database.shared:
        return
    query = select(NodeRow.id).where(NodeRow.expires_at > clock()).limit(1)
    async with reading(engine) as connection:
        node = (await connection.execute(query)).scalar_one_or_none()
    # guard: no-copy-of-a-running-service
    if node is not None:
        raise CopyFailed(
            f"{engine.database.address}: is used by the service {node}; stop it, or if it has "
            "died, wait a minute until its lease has expired"
        )


async def begin(target: Engine, marker: str) -> None:
    """Mark the target as unfinished. Only an empty database or an unfinished copy is taken."""
    present = await copy_under_way(target)
    if present is None and (table := await first_with_rows(target)) is not None:
        raise CopyFailed(
            f"{target.database.address}: its table {table} has rows already; name an empty database"
        )
    if present not in {None, marker}:
        raise CopyFailed(
            f"{target.database.address}: holds an unfinished copy of another database; name an "
            "empty database"
        )
    await set_reached(target, {marker: 0.0})


async def first_with_rows(engine: Engine) -> str | None:
    async with reading(engine) as connection:
        for table in copied_tables():
            if (await connection.execute(select(table).limit(1))).first() is not None:
                return table.name
    return None


async def finish(target: Engine) -> None:
    """Let new rows get higher ids than the copied ones, and remove the mark."""
    async with writing(target) as connection:
        for table in copied_tables():
            await set_next_id(connection, table)
        unfinished = ClockRow.name.startswith(UNFINISHED_COPY)
        await connection.execute(delete(ClockRow).where(unfinished))


SET_NEXT_ID = (
    "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "
    "(SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
)


async def set_next_id(connection: AsyncConnection, table: Table) -> None:
    """Set the sequence of a table. SQLite takes the highest id itself."""
    column = table.autoincrement_column
    if column is not None and Statement(lambda sql: sql.choose(sqlite=False, postgresql=True)).on(
        connection
    ):
        statement = SET_NEXT_ID.format(table=table.name, column=column.name)
        await connection.execute(text(statement))


# ---------------------------------------------------------------- rows


async def copy_table(
    source: AsyncConnection, target: Engine, table: Table, progress: Progress
) -> None:
    """Copy the rows that the target lacks."""
    (key,) = table.primary_key.columns
    numbers = await source.execute(select(func.count()).select_from(table))
    total, done = numbers.scalar_one(), 0
    if table.autoincrement_column is not None:  # in this order they were copied
        done, last = await copied_so_far(target, table)
    else:
        last = None
    progress(table.name, done, total)
    async for rows in parts_of(source, table, key, last):
        async with writing(target) as connection:
            await execute_many(connection, INSERTS[table.name].on(connection), rows)
        done += len(rows)
        progress(table.name, done, total)


async def copied_so_far(target: Engine, table: Table) -> tuple[int, int | None]:
    """Return how many rows the target has, and the highest id of them."""
    column = table.autoincrement_column
    assert column is not None
    query = select(func.count(), func.max(column)).select_from(table)
    async with reading(target) as connection:
        number, last = (await connection.execute(query)).one()
    return number, last


async def parts_of(
    source: AsyncConnection, table: Table, key: Column[Any], last: object
) -> AsyncIterator[Sequence[Mapping[str, object]]]:
    """Yield the rows that follow `last` in the order of the key, in parts."""
    query = select(*map(as_stored, table.columns)).order_by(key).limit(ROWS)
    if table is ClockRow.__table__:
        query = query.where(~key.startswith(UNFINISHED_COPY))
    while True:
        part = query if last is None else query.where(key > last)
        rows = (await source.execute(part)).mappings().all()
        if not rows:
            return
        last = rows[-1][key.name]
        yield [storable_row(dict(row)) for row in rows]


def as_stored(column: Column[Any]) -> ColumnElement[Any]:
    """Return a column as an expression that is not parsed: a damaged document is copied as well."""
    return type_coerce(column, Text).label(column.name) if is_json(column) else column


def is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JsonText)


def storable_row(row: dict[str, object]) -> dict[str, object]:
    """Return a row for either database. File names of earlier versions may have U+0000."""
    filename = row.get("filename")
    if isinstance(filename, str) and "\0" in filename:
        return {**row, "filename": storable(filename)}
    return row


def insert_of(table: Table) -> Statement[Any]:
    values = {
        column.name: bindparam(column.name, type_=Text() if is_json(column) else column.type)
        for column in table.columns
    }
    return Statement(lambda sql: sql.insert_or_keep(table).values(values))


INSERTS = {table.name: insert_of(table) for table in copied_tables()}

# ---------------------------------------------------------------- comparing


async def compare(source: Engine, target: Engine) -> dict[str, int]:
    """Return the number of rows of each table, which is the same in both.

    The sums of all numbers and the lengths of all texts are compared as well.

    Raises:
        CopyFailed: A table differs.
    """
    counts: dict[str, int] = {}
    async with reading(source) as theirs, reading(target) as ours:
        for table in copied_tables():
            wanted, got = [await totals(each, table) for each in (theirs, ours)]
            # guard: copies-compared
            if differ(wanted, got):
                raise CopyFailed(
                    f"{target.database.address}: its table {table.name} is not the same as in "
                    f"{source.database.address}: {got} instead of {wanted}; was a service started "
                    "meanwhile? Empty the target, and copy again"
                )
            counts[table.name] = int(wanted["rows"])
    return counts


def differ(wanted: Mapping[str, float], got: Mapping[str, float]) -> bool:
    """Return whether totals differ by more than the rounding of sums in another order."""
    return any(abs(got[name] - total) > 1e-9 * abs(total) for name, total in wanted.items())


async def totals(connection: AsyncConnection, table: Table) -> dict[str, float]:
    """Return the number of rows, and the total of each column."""
    columns = [total_of(column).label(column.name) for column in table.columns]
    query = select(func.count().label("rows"), *columns).select_from(table)
    if table is ClockRow.__table__:
        query = query.where(~ClockRow.name.startswith(UNFINISHED_COPY))
    row = (await connection.execute(query)).mappings().one()
    return {name: float(total or 0) for name, total in row.items()}


def total_of(column: Column[Any]) -> ColumnElement[Any]:
    """Return the sum of a column's numbers or of its texts' lengths."""
    if isinstance(column.type, Boolean):
        return func.sum(case((column, 1), else_=0))
    if isinstance(column.type, Numeric) or issubclass(python_type(column), int | float):
        return func.sum(column)
    return func.sum(func.length(cast(column, Text)))


def python_type(column: Column[Any]) -> type:
    try:
        return column.type.python_type
    except NotImplementedError:
        return str
