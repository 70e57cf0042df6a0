"""What nodes report of themselves, and interactive images that cross from node to node."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("report", sa.Text()))
    op.create_table(
        "asks",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("asker", sa.String(48), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("options", sa.Text()),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("owner", sa.String(64)),
        sa.Column("status", sa.String(16)),
        sa.Column("result", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_asks"),
    )
    op.create_index("ix_asks_asker", "asks", ["asker"])
    op.create_index("ix_asks_owner", "asks", ["owner"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE asks SET UNLOGGED")
        # Images are compressed already, and each row is deleted within seconds.
        op.execute("ALTER TABLE asks ALTER COLUMN content SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE asks SET (autovacuum_vacuum_threshold = 50)")


def downgrade() -> None:
    op.drop_table("asks")
    op.drop_column("nodes", "report")
