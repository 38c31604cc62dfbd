"""Alembic's entry: runs the migrations in the transaction that `kshot.index.store.migrate` has begun."""

from alembic import context

from kshot.index.store import learning_schema  # noqa: F401  # its tables belong to the same metadata
from kshot.index.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
