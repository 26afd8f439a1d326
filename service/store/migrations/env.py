"""Alembic's entry point: migrates on the connection of `perceptd.service.store.db.upgrade`."""

from alembic import context

from perceptd.service.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
