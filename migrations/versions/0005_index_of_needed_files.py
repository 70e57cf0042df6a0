"""An index of the few tasks whose files are still needed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAME = "ix_tasks_finished_at_spool"


def upgrade() -> None:
    named = sa.text("spool IS NOT NULL")
    op.create_index(
        NAME, "tasks", ["finished_at", "spool"], sqlite_where=named, postgresql_where=named
    )


def downgrade() -> None:
    op.drop_index(NAME, "tasks")
