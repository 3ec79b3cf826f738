"""The renewal of leases as the process beside a worker runs it: SQL text and connections for the drivers alone.

The statements restate `SqlAlchemyJobRepository._renew`; the tests of the process hold the two equal.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import libpq_version
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import Dialect

# In one statement, since it waits for no lock after it has read the time. Who has a row locked keeps it from the
# reaper, too, and the other leases do not wait for it.
_ON_POSTGRES = """
WITH held AS MATERIALIZED (
    SELECT job.id
    FROM job JOIN unnest(CAST(%(ids)s AS uuid[]), CAST(%(lease_seqs)s AS integer[])) AS hold (id, lease_seq)
        ON job.id = hold.id AND job.lease_seq = hold.lease_seq
    ORDER BY job.id
    FOR NO KEY UPDATE OF job SKIP LOCKED
)
UPDATE job SET lease_until = heimdex_now() + CAST(%(lease)s AS interval)
FROM held WHERE job.id = held.id
RETURNING CAST(job.id AS text), job.lease_seq
"""

# The time as SQLAlchemy writes it. SQLite counts in milliseconds.
_ON_SQLITE = """
UPDATE job SET lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', :lease) || '000'
WHERE id = :id AND lease_seq = :lease_seq
"""

_LIBPQ_KNOWS_USER_TIMEOUT = 120_000


def on_postgres(
    url: URL, dialect: Dialect, arguments: Mapping[str, Any], lease: timedelta, words: str
) -> dict[str, Any]:
    """Return what the process needs for PostgreSQL.

    Args:
        arguments: of the connection, over those of the URL.
        words: what each transaction begins with.
    """
    _, from_url = dialect.create_connect_args(url)
    # A server that is gone without a word must not hold it up for longer than a lease.
    silence = {"tcp_user_timeout": lease // timedelta(milliseconds=3)} if _libpq_knows_user_timeout() else {}
    return {
        "kind": "postgresql",
        "database": {
            "path": str(Path(psycopg2.__file__).parent.parent),
            "connect": {**silence, **from_url, **arguments},
            "statement": words.replace("%", "%%") + _ON_POSTGRES,
            "lease": lease.total_seconds(),
        },
    }


def on_sqlite(url: URL, dialect: Dialect, lock_timeout: timedelta, lease: timedelta) -> dict[str, Any]:
    """Return what the process needs for an SQLite file, which it never makes."""
    (file,), options = dialect.create_connect_args(url)
    if not options.get("uri"):
        file = f"file:{quote(file)}?mode=rw"
    return {
        "kind": "sqlite",
        "database": {
            "connect": {**options, "database": file, "uri": True, "timeout": lock_timeout.total_seconds()},
            "statement": _ON_SQLITE,
            "lease": lease.total_seconds(),
        },
    }


def _libpq_knows_user_timeout() -> bool:
    return libpq_version() >= _LIBPQ_KNOWS_USER_TIMEOUT
