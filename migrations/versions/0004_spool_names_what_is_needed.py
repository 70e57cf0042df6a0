"""A task names its spool file for as long as that is needed; before, it did so for ever."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tasks = sa.table("tasks", sa.column("status", sa.String), sa.column("spool", sa.String))
    ended = tasks.c.status.not_in(("PENDING", "PROCESSING"))
    op.execute(tasks.update().where(ended).values(spool=None))


def downgrade() -> None:
    """What an earlier version does with a name that is not there: nothing."""
