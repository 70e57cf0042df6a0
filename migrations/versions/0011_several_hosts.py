"""An index of claimed images instead of all images; on PostgreSQL, the care of a queue."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SUMS = "ix_tasks_client_open_images_size"
UNFINISHED = sa.text("finished_at IS NULL")
CLAIMED = sa.text("status = 'PROCESSING'")
# Each image is changed twice and each task many times, so dead rows are removed early: a claim
# would otherwise search through them. Pages keep space for the next versions of their rows.
CARE = {
    "images": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05, "
    "autovacuum_vacuum_cost_delay = 0, fillfactor = 90",
    "tasks": "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, "
    "autovacuum_vacuum_cost_delay = 0, fillfactor = 50",
    "turns": "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, "
    "autovacuum_vacuum_cost_delay = 0, fillfactor = 50",
    "nodes": "autovacuum_vacuum_threshold = 50, fillfactor = 50",
}


def upgrade() -> None:
    op.create_index(
        "ix_images_owner", "images", ["owner"], sqlite_where=CLAIMED, postgresql_where=CLAIMED
    )
    # A change of an image's state no longer changes an index of all images.
    op.drop_index("ix_images_status_id", "images")
    if op.get_bind().dialect.name == "postgresql":
        # Without the number of open images: a change of it then changes no index.
        op.create_index("ix_tasks_client", "tasks", ["client"], postgresql_where=UNFINISHED)
        op.drop_index(SUMS, "tasks")
        for table, settings in CARE.items():
            op.execute(f"ALTER TABLE {table} SET ({settings})")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, settings in CARE.items():
            names = ", ".join(setting.partition(" =")[0] for setting in settings.split(", "))
            op.execute(f"ALTER TABLE {table} RESET ({names})")
        op.create_index(
            SUMS, "tasks", ["client", "open_images", "size"], postgresql_where=UNFINISHED
        )
        op.drop_index("ix_tasks_client", "tasks")
    op.create_index("ix_images_status_id", "images", ["status", "id"])
    op.drop_index("ix_images_owner", "images")
