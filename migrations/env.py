"""Alembic runs the migrations on the connection that captiond passes to it."""

from alembic import context

from captiond.store.columns import with_conditions
from captiond.store.tables import Table

connection = context.config.attributes["connection"]
tables = with_conditions(Table.metadata)
context.configure(connection=connection, target_metadata=tables, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
