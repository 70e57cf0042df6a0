"""Leases of the nodes that hold claims, and the number of open images of each task."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OPEN = ("PENDING", "PROCESSING")


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
    number = sa.Column("open_images", sa.Integer(), nullable=False, server_default=sa.text("0"))
    op.add_column("tasks", number)
    op.execute(count_open_images())


def count_open_images() -> sa.Update:
    images = sa.table("images", sa.column("task_id"), sa.column("status"))
    tasks = sa.table("tasks", sa.column("id"), sa.column("status"), sa.column("open_images"))
    number = (
        sa.select(sa.func.count())
        .select_from(images)
        .where(images.c.task_id == tasks.c.id, images.c.status.in_(OPEN))
        .scalar_subquery()
    )
    return tasks.update().where(tasks.c.status.in_(OPEN)).values(open_images=number)


def downgrade() -> None:
    op.drop_column("tasks", "open_images")
    op.drop_table("nodes")
