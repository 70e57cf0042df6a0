"""Migrations that change rows: a database of an earlier version is as if it were new."""

from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from captiond.store import consistency, deliveries, leases, queueview
from captiond.store.engine import Engine, make_engine, writing
from captiond.store.migrate import head, migrations_folder, prepare_database
from captiond.store.upgrade import alembic_config

pytestmark = pytest.mark.anyio


async def migrate_to(engine: Engine, revision: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = alembic_config(migrations_folder())
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with writing(engine) as connection:
        await connection.run_sync(upgrade)


async def insert_task(engine: Engine, task_id: str, status: str, *images: str) -> None:
    finished = 2.0 if status in {"COMPLETED", "FAILED"} else None
    async with writing(engine) as connection:
        await connection.execute(
            text(
                "INSERT INTO tasks (id, status, created_at, spool, finished_at) "
                "VALUES (:id, :status, 1, 's', :finished)"
            ),
            {"id": task_id, "status": status, "finished": finished},
        )
        for position, image in enumerate(images):
            await connection.execute(
                text(
                    'INSERT INTO images (task_id, position, filename, "offset", size, status, '
                    "attempt, blame, owner, result) "
                    "VALUES (:id, :position, 'a.png', 0, 9, :status, 1, 0, :owner, :result)"
                ),
                {
                    "id": task_id,
                    "position": position,
                    "status": image,
                    "owner": "model0-0123abcd" if image == "PROCESSING" else None,
                    "result": "{}" if image in {"COMPLETED", "FAILED"} else None,
                },
            )


def test_the_newest_revision_is_that_of_alembic() -> None:
    migrations = ScriptDirectory.from_config(alembic_config(migrations_folder()))
    assert head() == migrations.get_current_head()


async def test_open_images_are_counted_and_claims_of_the_earlier_version_wait_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "captiond.db"
    engine = make_engine(path)
    try:
        await migrate_to(engine, "0006")
        await insert_task(engine, "waits", "PENDING", "PENDING", "PENDING")
        await insert_task(
            engine, "runs", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED", "FAILED"
        )
        await insert_task(engine, "finished", "COMPLETED", "COMPLETED", "FAILED")
        await prepare_database(engine)
        async with writing(engine) as connection:
            query = text("SELECT id, open_images FROM tasks")
            counted = {row.id: row.open_images for row in await connection.execute(query)}
        assert counted == {"waits": 2, "runs": 2, "finished": 0}
        assert await consistency.contradictions(engine) == []
        assert await leases.recover(engine, "node") == 1
        assert (await queueview.backlog(engine)).images == 4
    finally:
        await engine.dispose()


async def test_deliveries_stay_and_cancelled_imports_have_no_open_shards(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "captiond.db")
    try:
        await migrate_to(engine, "0015")
        await insert_task(engine, "finished", "COMPLETED", "COMPLETED")
        async with writing(engine) as connection:
            await connection.execute(
                text(
                    "INSERT INTO deliveries (id, task_id, url, host, status, attempts, created_at) "
                    "VALUES ('msg_1', 'finished', 'http://a/', 'a', 'DELIVERED', 1, 1)"
                )
            )
            for status in ("CANCELLED", "PROCESSING"):
                await connection.execute(
                    text(
                        "INSERT INTO imports (id, status, created_at, output, sources, form, "
                        "shard_images, listed, open_shards) "
                        "VALUES (:status, :status, 1, :status, '{}', 'jsonl', 2, true, 3)"
                    ),
                    {"status": status},
                )
        await prepare_database(engine)
        (delivery,) = await deliveries.of_task(engine, "finished")
        assert (delivery.id, delivery.status, delivery.import_id) == ("msg_1", "DELIVERED", None)
        async with writing(engine) as connection:
            query = text("SELECT id, open_shards FROM imports")
            counted = {row.id: row.open_shards for row in await connection.execute(query)}
            await connection.execute(text("DELETE FROM tasks"))
            left = await connection.execute(text("SELECT count(*) FROM deliveries"))
            assert left.scalar_one() == 0, "a delivery is deleted with its task"
        assert counted == {"CANCELLED": 0, "PROCESSING": 3}
    finally:
        await engine.dispose()
