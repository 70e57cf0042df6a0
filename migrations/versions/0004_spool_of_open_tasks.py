"""A task names its spool file only for as long as an image needs it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tasks = sa.table("tasks", sa.column("status", sa.String), sa.column("spool", sa.String))
    finished = tasks.c.status.not_in(("PENDING", "PROCESSING"))
    op.execute(tasks.update().where(finished).values(spool=None))


def downgrade() -> None:
    """Nothing: an earlier version ignores a missing name."""
