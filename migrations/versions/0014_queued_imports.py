"""Imports that model processes of the service work at."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

OPEN = sa.text("status IN ('PENDING', 'PROCESSING')")
CLAIMED = sa.text("owner IS NOT NULL")


def upgrade() -> None:
    false, nought = sa.false(), sa.text("0")
    op.add_column(
        "imports", sa.Column("queued", sa.Boolean(), nullable=False, server_default=false)
    )
    op.add_column(
        "imports", sa.Column("turn", sa.BigInteger(), nullable=False, server_default=nought)
    )
    op.add_column("imports", sa.Column("problem", sa.Text()))
    op.add_column(
        "shards", sa.Column("refusals", sa.Integer(), nullable=False, server_default=nought)
    )
    op.add_column("shards", sa.Column("blamed", sa.Text()))
    op.create_index(
        "ix_shards_import_id_refusals_number_open",
        "shards",
        ["import_id", "refusals", "number"],
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.create_index(
        "ix_shards_owner_claimed",
        "shards",
        ["owner"],
        sqlite_where=CLAIMED,
        postgresql_where=CLAIMED,
    )
    op.drop_index("ix_shards_import_id_number_open", "shards")


def downgrade() -> None:
    op.create_index(
        "ix_shards_import_id_number_open",
        "shards",
        ["import_id", "number"],
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.drop_index("ix_shards_owner_claimed", "shards")
    op.drop_index("ix_shards_import_id_refusals_number_open", "shards")
    op.drop_column("shards", "blamed")
    op.drop_column("shards", "refusals")
    op.drop_column("imports", "problem")
    op.drop_column("imports", "turn")
    op.drop_column("imports", "queued")
