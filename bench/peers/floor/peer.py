"""The floor: our rows, our indexes and our three events for each job, written by hand-made SQL on psycopg2 alone.

What it writes is frozen: tests/bench/test_floor.py compares it with what Heimdex writes, column by column and, in
the details of events, character by character. For each job that is

- a row of `job` with every column that a create sets, changed by the claim and by the finish;
- three rows of `job_event`: `create` with all limits, digests and the key, `claim` with attempt, worker and lease,
  `succeed` with attempt and lease_seq; each with actor and source.

One statement finishes a batch, claims the next and writes the events of both. A finish compares (id, version): that is
the fence, and what the primary key answers. 500 jobs a batch, nothing ahead of need; one connection in a process, or
one for each of two threads ("2 connections").
"""

import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from threading import Thread
from uuid import UUID, uuid4

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class that the driver names in lower case

from bench import protocol
from bench.protocol import Wish
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings

BATCH = 500
ORG = str(UUID(int=1))
IDLE_SECONDS = 0.002
CONNECTIONS = protocol.setting("CONNECTIONS", 1)
_TIME = "@"

CREATE = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
        AS given (id, payload, key, fingerprint, head, tail)
), made AS (
    INSERT INTO job (
        id, org_id, type, queue, priority, payload, status, attempt, max_attempts, backoff_policy, backoff_base_ms,
        backoff_factor, backoff_cap_ms, backoff_jitter, timeout_ms, scheduled_at, idempotency_key, fingerprint,
        requested_by, progress, crashes, created_at, updated_at, version
    )
    SELECT id, %s::uuid, 'noop', 'default', 0, payload::json, 'queued', 0, 5, 'exp', 5000, 2, 3600000, 0.5, 900000,
        now(), key, fingerprint, 'bench', 0, 0, now(), now(), 1
    FROM given
    ON CONFLICT (org_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
)
INSERT INTO job_event (job_id, seq, org_id, ts, next_status, trigger, actor, detail_json)
SELECT id, 1, %s::uuid, now(), 'queued', 'create', 'bench',
    (head || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || tail)::json
FROM made JOIN given USING (id)
"""

STEP = """
WITH finished AS (
    UPDATE job SET status = 'succeeded', progress = 100, finished_at = now(), updated_at = now(), claimed_by = NULL,
        lease_seq = NULL, lease_until = NULL, version = job.version + 1
    FROM unnest(%s::uuid[], %s::int[]) AS held (id, version)
    WHERE job.id = held.id AND job.version = held.version
    RETURNING job.id, job.org_id, job.version, job.attempt, held.version AS lease_seq
), due AS (
    SELECT id FROM job WHERE status = 'queued' AND scheduled_at <= now()
    ORDER BY priority DESC, scheduled_at, id LIMIT %s FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE job SET status = 'running', attempt = attempt + 1, progress = 0, stage = NULL, claimed_by = %s::uuid,
        lease_seq = version + 1, lease_until = now() + interval '30 s', started_at = coalesce(started_at, now()),
        updated_at = now(), version = version + 1
    FROM due WHERE job.id = due.id
    RETURNING job.id, org_id, version, attempt, payload
), hold AS MATERIALIZED (
    SELECT ',"claimed_by":"' || %s || '","lease_until":"'
        || to_char(now() AT TIME ZONE 'UTC' + interval '30 s', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}' AS detail
), events AS (
    INSERT INTO job_event (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, detail_json)
    SELECT id, version, org_id, now(), 'running', 'succeeded', 'succeed', %s, %s,
        ('{"attempt":' || attempt || ',"lease_seq":' || lease_seq || '}')::json FROM finished
    UNION ALL
    SELECT id, version, org_id, now(), 'queued', 'running', 'claim', %s, %s,
        ('{"attempt":' || attempt || hold.detail)::json FROM claimed CROSS JOIN hold
)
SELECT id, version, payload FROM claimed
"""


class Creator:
    def __init__(self, connection: Connection) -> None:
        self._cursor = connection.cursor()

    async def one(self, wish: Wish) -> None:
        await self.many([wish])

    async def many(self, wishes: Sequence[Wish]) -> None:
        payloads = [_canonical({"at": wish.at, "number": wish.number, "text": wish.text}) for wish in wishes]
        fingerprints = [sha256(f"noop\0{payload}".encode()).hexdigest() for payload in payloads]
        details = [
            _detail(fingerprint, wish.key, payload).partition(_TIME)
            for fingerprint, wish, payload in zip(fingerprints, wishes, payloads, strict=True)
        ]
        self._cursor.execute(
            CREATE,
            [
                [_uuid7() for _ in wishes],
                payloads,
                [wish.key for wish in wishes],
                fingerprints,
                [head for head, _, _ in details],
                [tail for _, _, tail in details],
                ORG,
                ORG,
            ],
        )


class Floor:
    batch = protocol.BATCH

    async def setup(self) -> None:
        with bootstrap(Settings(database_url=protocol.database_url())) as app:
            app.schema.upgrade()

    async def clear(self) -> None:
        raise NotImplementedError("the harness brings a fresh database")

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        connection = _connect()
        yield Creator(connection)
        connection.close()

    def work(self) -> None:
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        others = [Thread(target=_work, args=(stopped,)) for _ in range(CONNECTIONS - 1)]
        for other in others:
            other.start()
        _work(stopped)
        for other in others:
            other.join()


def _work(stopped: Sequence[int]) -> None:
    connection = _connect()
    cursor = connection.cursor()
    worker, ids, versions = str(uuid4()), list[str](), list[int]()
    named = [f"{socket.gethostname()}:{os.getpid()}", f"worker {worker}"]
    while ids or not stopped:
        cursor.execute(STEP, [ids, versions, 0 if stopped else BATCH, worker, worker, *named, *named])
        rows = cursor.fetchall()
        for _, _, payload in rows:
            protocol.arrived(payload["at"])
        ids, versions = [row[0] for row in rows], [row[1] for row in rows]
        if not rows:
            time.sleep(IDLE_SECONDS)
    connection.close()


def _connect() -> Connection:
    connection = psycopg2.connect(protocol.database_url())
    connection.autocommit = True
    return connection


def _canonical(document: dict[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _detail(fingerprint: str, key: str | None, payload: str) -> str:
    """Return what a create event says, with a mark where the statement puts its own time."""
    return _canonical(
        {
            "backoff_base_ms": 5000,
            "backoff_cap_ms": 3600000,
            "backoff_factor": 2.0,
            "backoff_jitter": 0.5,
            "backoff_policy": "exp",
            "fingerprint": fingerprint,
            "idempotency_key": key,
            "max_attempts": 5,
            "parent_id": None,
            "payload_bytes": len(payload),
            "payload_sha256": sha256(payload.encode()).hexdigest(),
            "priority": 0,
            "queue": "default",
            "requested_by": "bench",
            "scheduled_at": _TIME,
            "timeout_ms": 900000,
            "type": "noop",
        }
    )


def _uuid7() -> str:
    milliseconds = time.time_ns() // 1_000_000
    number = int.from_bytes(milliseconds.to_bytes(6) + os.urandom(10))
    return str(UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62))


if __name__ == "__main__":
    protocol.run(Floor())
