"""Where the processes that work on the same tables tell each other, on PostgreSQL: a channel of LISTEN and NOTIFY."""

import json
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import Notify

Connection: TypeAlias = psycopg2.extensions.connection

OF_ANY_QUEUE = ""
# In characters, all of them ASCII. The server takes 8,000 bytes.
_LONGEST_PAYLOAD = 1_000
_WARN_SECONDS = 60.0

# The tables' schema, whatever the search path of this login.
_WHO_AND_WHERE = """
SELECT pg_backend_pid(), CAST('heimdex_' || coalesce(
    (SELECT nspname FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid
     WHERE pg_class.oid = to_regclass('job')),
    current_schema(), '') AS name)
"""
# Nobody waits for the disk: what a crash takes was a hint. For this transaction alone, since a pooler may lend the
# connection to somebody else.
_NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"


class Channel:
    """A connection of its own. Every method but `close` may raise what the driver raises."""

    def __init__(self, connection: Connection) -> None:
        connection.autocommit = True
        self._connection = connection
        with connection.cursor() as cursor:
            cursor.execute(_WHO_AND_WHERE)
            self.backend, self.name = cursor.fetchone() or (0, "")

    def listen(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.name)))

    def notify(self, payload: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(_NOTIFY, (self.name, payload))

    def notifications(self) -> list[Notify]:
        self._connection.poll()
        found = list(self._connection.notifies)
        self._connection.notifies.clear()
        return found

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.close()


class Complaint:
    """Warns at most once a minute."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._due_at = time.monotonic()

    def __call__(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + _WARN_SECONDS
            logging.getLogger("heimdex.wakeups").warning(self._message, error)


def connect(arguments: Mapping[str, Any]) -> Channel:
    return Channel(psycopg2.connect(**arguments))


def payload_of(queues: Collection[str]) -> str:
    """Return the names of queues as a payload."""
    names = json.dumps(sorted(queues), separators=(",", ":"))
    return OF_ANY_QUEUE if OF_ANY_QUEUE in queues or len(names) > _LONGEST_PAYLOAD else names


def queues_of(payloads: Collection[str]) -> set[str] | None:
    """Return the queues that payloads name; None: it may be any, as where somebody notifies by hand."""
    queues: set[str] = set()
    for payload in payloads:
        try:
            names = json.loads(payload)
        except ValueError:
            return None
        if not isinstance(names, list):
            return None
        queues.update(name for name in names if isinstance(name, str))
    return queues
