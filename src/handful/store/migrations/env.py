"""What alembic runs: the missing steps, over the connection and in the transaction that `database.py` holds."""

from __future__ import annotations

from alembic import context

from handful.store.tables import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
