"""Indexes for lists of tasks, and the order in which the results of a task were stored."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LISTS = {
    "ix_tasks_status_created_at_id": ["status", "created_at", "id"],
    "ix_tasks_client_created_at_id": ["client", "created_at", "id"],
    "ix_tasks_client_status_created_at_id": ["client", "status", "created_at", "id"],
}
UNCAPTIONED = "ix_images_task_id_status"
RESULTS = "ix_images_task_id_revision_position"


def upgrade() -> None:
    for name, columns in LISTS.items():
        op.create_index(name, "tasks", columns)
    # Earlier results keep 0: they come first, in upload order.
    op.add_column(
        "images", sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    stored = sa.text("revision > 0")
    op.create_index(
        RESULTS,
        "images",
        ["task_id", "revision", "position"],
        sqlite_where=stored,
        postgresql_where=stored,
    )
    uncaptioned = sa.text("status IN ('FAILED', 'CANCELLED')")
    op.create_index(
        UNCAPTIONED,
        "images",
        ["task_id", "status"],
        sqlite_where=uncaptioned,
        postgresql_where=uncaptioned,
    )


def downgrade() -> None:
    op.drop_index(UNCAPTIONED, "images")
    op.drop_index(RESULTS, "images")
    op.drop_column("images", "revision")
    for name in LISTS:
        op.drop_index(name, "tasks")
