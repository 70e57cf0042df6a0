"""Imports: lists of images that lie somewhere else, in shards."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OPEN = sa.text("status IN ('PENDING', 'PROCESSING')")


def upgrade() -> None:
    op.create_table(
        "imports",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("shard_images", sa.Integer(), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("lister", sa.String(64)),
        sa.Column("lister_until", sa.Float()),
        sa.Column("last_address", sa.String(64)),
        sa.Column("shards", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("open_shards", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("images", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("captioned", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("failed", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_imports"),
        sa.UniqueConstraint("output", name="uq_imports_output"),
    )
    op.create_index("ix_imports_created_at_id", "imports", ["created_at", "id"])
    op.create_table(
        "shards",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=True,
        ),
        sa.Column("import_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("owner", sa.String(64)),
        sa.Column("claimed_until", sa.Float()),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("addresses", sa.Text()),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_shards_import_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_shards"),
        sa.UniqueConstraint("import_id", "number", name="uq_shards_import_id_number"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_shards_import_id_number_open",
        "shards",
        ["import_id", "number"],
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )


def downgrade() -> None:
    op.drop_table("shards")
    op.drop_table("imports")
