"""The process that renews leases: a script, started by its path, that imports the standard library and one driver.

What it is to do comes as one line of JSON on its standard input. Which leases, and what became of them, stands in a
table that it shares with its worker. It ends with its worker, says nothing, and tries again what failed.
"""

import json
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Sequence

# Its own, since loading `typing` would take a sixth of the memory of this process at rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Held = tuple[bytes, int]
"""A job's id and its `lease_seq`."""

# A slot of the table, in words of eight bytes. The worker writes the hold, until when to renew it, since when it is
# held, and last the ticket, which no other hold ever has; 0: the slot is free.
# `pack_into` writes zeros first, so the other side may read a word as zero while it is written. Zero is nothing yet: no
# ticket, a hold that no job has, a lease not to be renewed at this look (`until`) or early (`since`).
HOLD = struct.Struct("@16sqdd")
TICKET = struct.Struct("@q")
TICKET_AT = HOLD.size
# This process writes when it asked for the last renewal that succeeded, and then whose ticket it was.
RENEWED_AT = TICKET_AT + TICKET.size
RENEWED = struct.Struct("@d")
RENEWED_TICKET_AT = RENEWED_AT + RENEWED.size
SLOT_SIZE = RENEWED_TICKET_AT + TICKET.size

# In parts of the interval between renewals: how old one is when the next is due, and the time between two looks.
DUE, LOOK = 3 / 4, 1 / 8
_AT_ONCE = 500
_STDIN = 0


class Postgres:
    def __init__(self, path: str, connect: "dict[str, Any]", statement: str, lease: float) -> None:
        sys.path.append(path)
        self._connect = connect
        self._statement = statement
        self._lease = lease
        self._connection: Any = None

    def renew(self, holds: Sequence[Held]) -> set[Held]:
        """Renew leases, given in the order of ids; return the holds that were in force."""
        if self._connection is None:
            import psycopg2  # noqa: PLC0415 - most leases end before they are due, and it is the larger part of all

            self._connection = psycopg2.connect(**self._connect)
            # What is sent at once is one transaction, in one round trip.
            self._connection.autocommit = True
        ids, numbers = [job_id.hex() for job_id, _ in holds], [lease_seq for _, lease_seq in holds]
        with self._connection.cursor() as cursor:
            cursor.execute(self._statement, {"ids": ids, "lease_seqs": numbers, "lease": f"{self._lease} seconds"})
            return {(bytes.fromhex(job_id.replace("-", "")), lease_seq) for job_id, lease_seq in cursor.fetchall()}

    def drop(self) -> None:
        """Give up the connection. The next renewal makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Sqlite:
    def __init__(self, connect: "dict[str, Any]", statement: str, lease: float) -> None:
        self._connect = connect
        self._statement = statement
        self._lease = lease
        self._connection: Any = None

    def renew(self, holds: Sequence[Held]) -> set[Held]:
        if self._connection is None:
            import sqlite3  # noqa: PLC0415 - as above

            self._connection = sqlite3.connect(**self._connect, isolation_level=None)
            self._connection.execute("PRAGMA synchronous=FULL")
        kept = set()
        # Each statement reads the time when it runs, so after the wait for the lock.
        self._connection.execute("BEGIN IMMEDIATE")
        for job_id, lease_seq in holds:
            values = {"lease": f"+{self._lease} seconds", "id": job_id.hex(), "lease_seq": lease_seq}
            if self._connection.execute(self._statement, values).rowcount:
                kept.add((job_id, lease_seq))
        self._connection.execute("COMMIT")
        return kept

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Table:
    """The leases to renew."""

    def __init__(self, memory: mmap.mmap, every: float) -> None:
        self._memory = memory
        self._every = every

    def due(self, now: float) -> list[tuple[Held, int, int]]:
        """Return the holds that are to be renewed now, each with its place and ticket, in the order of ids."""
        due = []
        for place in range(0, len(self._memory), SLOT_SIZE):
            # The ticket first: whoever takes the slot meanwhile writes another one, after its hold.
            (ticket,) = TICKET.unpack_from(self._memory, place + TICKET_AT)
            if ticket:
                job_id, lease_seq, until, since = HOLD.unpack_from(self._memory, place)
                (renewed_ticket,) = TICKET.unpack_from(self._memory, place + RENEWED_TICKET_AT)
                if renewed_ticket == ticket:
                    (since,) = RENEWED.unpack_from(self._memory, place + RENEWED_AT)
                if since + DUE * self._every <= now < until:
                    due.append(((job_id, lease_seq), place, ticket))
        return sorted(due)

    def note(self, place: int, ticket: int, renewed_at: float) -> None:
        at, ticket_at = place + RENEWED_AT, place + RENEWED_TICKET_AT
        # What is copied is never read as zero: the worker would take a lease that is in force for one never renewed.
        self._memory[at:ticket_at] = RENEWED.pack(renewed_at)
        if TICKET.unpack_from(self._memory, ticket_at) != (ticket,):
            TICKET.pack_into(self._memory, ticket_at, ticket)


def renew(database: Postgres | Sqlite, table: Table, worker: int) -> None:
    due = table.due(time.monotonic())
    for first in range(0, len(due), _AT_ONCE):
        some = due[first : first + _AT_ONCE]
        asked_at = time.monotonic()
        if os.getppid() != worker:
            return
        kept = database.renew([held for held, _, _ in some])
        for held, place, ticket in some:
            if held in kept:
                table.note(place, ticket, asked_at)


def main() -> None:
    # Ctrl-C is for the worker, whose leases are needed until it has given back what it holds.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with os.fdopen(_STDIN, "rb", buffering=0, closefd=False) as stdin:
        instructions = json.loads(stdin.readline())
    worker, every = instructions["worker"], instructions["every"]
    table = Table(mmap.mmap(instructions["table"], instructions["size"]), every)
    kind = Postgres if instructions["kind"] == "postgresql" else Sqlite
    database = kind(**instructions["database"])
    # The end of the input, or anything more in it, is the end. A fork of the worker may hold the pipe open after it.
    while not select.select([_STDIN], [], [], LOOK * every)[0] and os.getppid() == worker:
        try:
            renew(database, table, worker)
        except Exception:  # noqa: BLE001 - whatever it is, the worker sees that nothing was renewed, and does it itself
            database.drop()


if __name__ == "__main__":
    main()
