"""Where the processes that work on the same tables tell each other, on PostgreSQL: a channel of LISTEN and NOTIFY."""

import json
import logging
import select
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, Notify, quote_ident

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


class Channel:
    """A connection of its own, which waits only where it says so. Every method but `close` may raise psycopg2.Error.

    Args:
        arguments: of `psycopg2.connect`; `connect_timeout` is how long to wait for any answer.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._longest = float(arguments["connect_timeout"])
        self.backend, self._name = 0, ""
        self._told: tuple[str, bytes] | None = None
        self._connection = psycopg2.connect(**arguments, async_=True)
        try:
            self.settle()
            # The one that is executed has to live until its answer has come.
            self._cursor = self._connection.cursor()
            self._cursor.execute(_WHO_AND_WHERE)
            self.settle()
            self.backend, name = self._cursor.fetchone() or (0, "")
            self._name = quote_ident(name, self._cursor)
        except BaseException:
            self.close()
            raise

    def listen(self) -> None:
        self._cursor.execute(f"LISTEN {self._name}")
        self.settle()

    def notify(self, payload: str) -> None:
        """Send without waiting for the answer, which has to come before anything else is sent."""
        if self._told is None or self._told[0] != payload:
            statement = f"NOTIFY {self._name}, ".encode() + self._cursor.mogrify("%s", (payload,))
            self._told = payload, statement
        # Most say the same as the one before, and to put it together takes longer than to send it.
        self._cursor.execute(self._told[1])

    def is_settled(self) -> bool:
        """Return whether the answer to what was sent has come."""
        state = self._connection.poll()
        # More to read are the last words of a server that ends the connection, or the end that was behind them.
        while state == POLL_OK and self._wait(select.POLLIN, 0):
            state = self._connection.poll()
        return bool(state == POLL_OK)

    def settle(self) -> None:
        """Wait for the answer to what was sent."""
        deadline = time.monotonic() + self._longest
        while (state := self._connection.poll()) != POLL_OK:
            event = select.POLLIN if state == POLL_READ else select.POLLOUT
            if not self._wait(event, max(deadline - time.monotonic(), 0)):
                raise psycopg2.OperationalError("the server does not answer")

    def notifications(self) -> list[Notify]:
        """Return what has come since."""
        self._connection.poll()
        found = list(self._connection.notifies)
        self._connection.notifies.clear()
        return found

    def fileno(self) -> int:
        file: int = self._connection.fileno()
        return file

    def close(self) -> None:
        self._connection.close()

    def _wait(self, event: int, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self._connection.fileno(), event)
        return bool(waiting.poll(seconds * 1_000))


class Complaint:
    """Warns at most once a minute."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._due_at = time.monotonic()

    def __call__(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + _WARN_SECONDS
            # What the driver adds below is of no use to operators.
            logging.getLogger("heimdex.wakeups").warning(self._message, str(error).partition("\n")[0])


@lru_cache
def payload_of(queues: frozenset[str]) -> str:
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
