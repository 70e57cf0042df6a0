"""Fair turns: the clients that wait, who a task is from, and a clock that the wall cannot turn."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COLUMNS = (
    sa.Column("client", sa.Text(), nullable=False, server_default=sa.text("''")),
    sa.Column("weight", sa.Float(), nullable=False, server_default=sa.text("1")),
    sa.Column("cost", sa.Float(), nullable=False, server_default=sa.text("1")),
    sa.Column("size", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("turn", sa.Float(), nullable=True),
)
WAITS = sa.text("turn IS NOT NULL")
UNFINISHED = sa.text("finished_at IS NULL")
IS_PENDING = sa.text("status = 'PENDING'")


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("tasks", column)
    op.create_index(
        "ix_tasks_client_turn_created_at",
        "tasks",
        ["client", "turn", "created_at"],
        sqlite_where=WAITS,
        postgresql_where=WAITS,
    )
    op.create_index(
        "ix_tasks_client_open_images_size",
        "tasks",
        ["client", "open_images", "size"],
        sqlite_where=UNFINISHED,
        postgresql_where=UNFINISHED,
    )
    op.create_index(
        "ix_images_task_id_id",
        "images",
        ["task_id", "id"],
        sqlite_where=IS_PENDING,
        postgresql_where=IS_PENDING,
    )
    op.create_table(
        "turns",
        sa.Column("id", LONG, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("turn", sa.Float(), nullable=False),
        sa.Column("waits", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_turns"),
        sa.UniqueConstraint("client", name="uq_turns_client"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_turns_waits_turn_id", "turns", ["waits", "turn", "id"])
    op.create_table(
        "clocks",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("reached", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_clocks"),
    )
    op.execute(sizes_of_open_tasks())
    # The tasks that wait are those of one client without a name, and wait equally long.
    op.execute("UPDATE tasks SET turn = 0 WHERE finished_at IS NULL")
    op.execute(
        "INSERT INTO turns (client, weight, turn, waits) "
        "SELECT '', 1, 0, true WHERE EXISTS (SELECT 1 FROM tasks WHERE finished_at IS NULL)"
    )


def sizes_of_open_tasks() -> sa.Update:
    images = sa.table("images", sa.column("task_id"), sa.column("size"))
    tasks = sa.table("tasks", sa.column("id"), sa.column("finished_at"), sa.column("size"))
    size = (
        sa.select(sa.func.coalesce(sa.func.sum(images.c.size), 0))
        .where(images.c.task_id == tasks.c.id)
        .scalar_subquery()
    )
    return tasks.update().where(tasks.c.finished_at.is_(None)).values(size=size)


def downgrade() -> None:
    op.drop_table("clocks")
    op.drop_table("turns")
    op.drop_index("ix_images_task_id_id", "images")
    op.drop_index("ix_tasks_client_open_images_size", "tasks")
    op.drop_index("ix_tasks_client_turn_created_at", "tasks")
    for column in reversed(COLUMNS):
        op.drop_column("tasks", column.name)
