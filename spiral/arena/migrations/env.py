"""Run by Alembic: revisions in the transaction that the caller opened, so that they are done wholly or not at all."""

from alembic import context

_attributes = context.config.attributes
# Batch: SQLite changes a column by making the table anew.
context.configure(
    connection=_attributes["connection"], target_metadata=_attributes["tables"], render_as_batch=True, compare_type=True
)
with context.begin_transaction():
    context.run_migrations()
