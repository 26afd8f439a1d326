"""Alembic's entry: runs on the connection that `perceptd.service.store.db.migrate` hands over."""

from alembic import context

from perceptd.service.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
