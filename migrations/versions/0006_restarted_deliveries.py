"""The time at which a command restarted a delivery, since a delivery is given up by its age."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("renewed_at", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("deliveries", "renewed_at")
