"""The options of a request, stored with its task."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tasks",
        sa.Column("options", sa.JSON().with_variant(sa.Text(), "postgresql"), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("tasks", "options")
