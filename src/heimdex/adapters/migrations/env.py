"""Alembic's entry into our revisions. `adapters/schema.py` hands over the connection."""

from alembic import context
from sqlalchemy import Connection, text

from heimdex.adapters.orm import metadata
from heimdex.adapters.schema import VERSION_TABLE

# Two upgrades at once wait for each other. The number is arbitrary and ours: the first bytes of "heimdex".
_ADVISORY_LOCK = 0x6865696D646578


def _run(connection: Connection) -> None:
    locks = connection.dialect.name == "postgresql"
    if locks:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        if locks:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
            connection.commit()


_run(context.config.attributes["connection"])
