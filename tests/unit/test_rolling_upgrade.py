"""Each migration lets the version before it go on: nodes are upgraded one after the other.

Nodes of the version before run while the first new one migrates the database. So a migration may
add tables, indexes, and columns that an INSERT may leave out, also with references. It may not
remove, rename or tighten what is there.
"""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, delete, insert, inspect, select, update

from captiond.store.engine import Engine, make_engine, writing
from captiond.store.migrate import migrations_folder
from captiond.store.upgrade import alembic_config
from tests.postgres import PostgresServer
from tests.unit.test_migrations import migrate_to

pytestmark = pytest.mark.anyio
FIRST = "0011"  # the first version that several nodes can use
Schema = dict[str, dict[str, tuple[str, bool, bool]]]


def steps() -> list[tuple[str, str]]:
    """Return each pair of a version and the next one, from the first that nodes can share."""
    script = ScriptDirectory.from_config(alembic_config(migrations_folder()))
    revisions = [each.revision for each in reversed(list(script.walk_revisions()))]
    since = revisions[revisions.index(FIRST) :]
    return list(pairwise(since))


@pytest.fixture
async def empty(postgres: PostgresServer) -> AsyncIterator[Engine]:
    name = postgres.create_database()
    engine = make_engine(postgres.address(name))
    yield engine
    await engine.dispose()
    postgres.drop_database(name)


def reflected(connection: Connection) -> MetaData:
    """Return the tables as a client of this version knows them."""
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


def example(table: Table, key: str) -> dict[str, Any]:
    """Return a row as a client of this version inserts it, with a value for each of its columns."""
    row: dict[str, Any] = {}
    for column in table.columns:
        if column.foreign_keys:
            row[column.name] = key
        elif column.type.python_type is str:
            row[column.name] = key[: getattr(column.type, "length", None) or 99]
        elif not column.autoincrement or not column.primary_key or column.type.python_type is float:
            row[column.name] = column.type.python_type(1)
    return row


def use_as_before(connection: Connection, before: MetaData) -> None:
    """Insert, read, change and delete a row of each table with the statements of that version."""
    tables = [table for table in before.sorted_tables if table.name != "alembic_version"]
    for table in tables:
        connection.execute(insert(table), example(table, "old"))
    for table in tables:
        assert len(connection.execute(select(table)).all()) == 1
        values = {column.name: column for column in table.columns if not column.primary_key}
        assert connection.execute(update(table).values(values)).rowcount == 1
    for table in reversed(tables):
        connection.execute(delete(table))


def rules(connection: Connection, known: MetaData) -> set[tuple[str, str]]:
    """Return what a row of each table must satisfy: unique columns, references and checks.

    A reference of a column that is not `known` is left out. It is NULL in rows of that version.
    """
    inspector = inspect(connection)
    found = set()
    for table in inspector.get_table_names():
        old = {*known.tables[table].columns.keys()} if table in known.tables else set()
        for each in (
            *inspector.get_unique_constraints(table),
            *(
                key
                for key in inspector.get_foreign_keys(table)
                if not old.isdisjoint(key["constrained_columns"])
            ),
            *inspector.get_check_constraints(table),
            *(index for index in inspector.get_indexes(table) if index["unique"]),
        ):
            found.add((table, str(each["name"])))
    return found


@pytest.mark.parametrize(("before", "after"), steps())
async def test_the_version_before_goes_on_after_a_migration(
    empty: Engine, before: str, after: str
) -> None:
    await migrate_to(empty, before)
    async with writing(empty) as connection:
        known = await connection.run_sync(reflected)
        had = await connection.run_sync(rules, known)
        await connection.run_sync(use_as_before, known)
    await migrate_to(empty, after)
    async with writing(empty) as connection:
        await connection.run_sync(use_as_before, known)
        new = await connection.run_sync(rules, known) - had
    assert {table for table, _ in new} & known.tables.keys() == set(), "a new rule for old tables"


async def test_the_check_finds_what_the_version_before_could_not_do(empty: Engine) -> None:
    await migrate_to(empty, FIRST)
    async with writing(empty) as connection:
        known = await connection.run_sync(reflected)
        await connection.exec_driver_sql("ALTER TABLE nodes ADD COLUMN more text NOT NULL")
    with pytest.raises(Exception, match="null"):
        async with writing(empty) as connection:
            await connection.run_sync(use_as_before, known)
