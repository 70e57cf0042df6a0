"""Webhooks of imports. A cancelled import has no open shards."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

OF_IMPORTS = sa.text("import_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("imports", sa.Column("callback_url", sa.Text()))
    op.execute("UPDATE imports SET open_shards = 0 WHERE status = 'CANCELLED'")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("import_id", sa.String(64)))
        deliveries.alter_column("task_id", existing_type=sa.String(64), nullable=True)
        deliveries.create_foreign_key(
            "fk_deliveries_import_id", "imports", ["import_id"], ["id"], ondelete="CASCADE"
        )
    op.create_index(
        "ix_deliveries_import_id",
        "deliveries",
        ["import_id"],
        sqlite_where=OF_IMPORTS,
        postgresql_where=OF_IMPORTS,
    )


def downgrade() -> None:
    op.execute("DELETE FROM deliveries WHERE import_id IS NOT NULL")
    op.drop_index("ix_deliveries_import_id", "deliveries")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_constraint("fk_deliveries_import_id", type_="foreignkey")
        deliveries.alter_column("task_id", existing_type=sa.String(64), nullable=False)
        deliveries.drop_column("import_id")
    op.drop_column("imports", "callback_url")
