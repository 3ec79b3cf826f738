"""Alembic's entry into our revisions. `adapters/schema.py` hands over the connection.

On SQLite its transaction has begun and holds the write lock: all the revisions are one. On PostgreSQL each is a
transaction of its own, under a lock that keeps other upgrades out.
"""

from alembic import context
from sqlalchemy import Connection, text

from heimdex.adapters.orm import metadata
from heimdex.adapters.schema import VERSION_TABLE

# Two upgrades at once wait for each other. The number is arbitrary and ours: the first bytes of "heimdex".
_ADVISORY_LOCK = 0x6865696D646578
# Another upgrade may take longer than anybody should wait for a table.
_LONGEST_WAIT = "60s"


def _run(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        _migrate(connection)
        return
    connection.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": _LONGEST_WAIT})
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
    connection.execute(text("RESET lock_timeout"))
    connection.commit()
    try:
        _migrate(connection)
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
        connection.commit()


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


_run(context.config.attributes["connection"])
