"""The floor writes the same rows and events as Heimdex: otherwise a share of it says nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from bench.cases import Bench
from bench.catalogue import Peer, catalogue
from bench.places import Places, address
from bench.processes import Runner
from tests.postgres_server import PostgresServer

JOBS = 6
# What differs between any two runs: ids, times, hosts and processes.
_VARYING = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00)", "TIME"),
    (r"\b[\w.-]+:\d+\b(?=\t)", "HOST:PROCESS"),
)


@pytest.fixture
def places(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Places]:
    places = Places(address(postgres_server.url("postgres"), "postgres"), None, tmp_path)
    yield places
    places.drop_templates()


def _written(places: Places, peer: Peer, folder: Path) -> list[str]:
    runner = Runner(folder, 60)
    bench = Bench(places, runner, pickups=0)
    with places.fresh(peer, runner) as place:
        runner.ask(peer, place.url, "create-bulk", str(JOBS // 2), "--keys")
        runner.ask(peer, place.url, "create-bulk", str(JOBS // 2), "--start", "100")
        bench.drain(peer, place, JOBS, 1)
        connection = psycopg2.connect(place.url)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                """SELECT job::text, string_agg(event.row, ' ' ORDER BY event.seq)
                FROM job JOIN (
                    SELECT job_id, seq, concat_ws(E'\t', seq, ts, prev_status, next_status, trigger, actor,
                        source, reason, detail_json::text) AS row
                    FROM job_event
                ) AS event ON event.job_id = job.id
                GROUP BY job.id ORDER BY (payload ->> 'number')::int"""
            )
            rows = ["\n".join(row) for row in cursor.fetchall()]
        connection.close()
    for pattern, name in _VARYING:
        rows = [re.sub(pattern, name, row) for row in rows]
    return rows


def test_the_floor_writes_what_heimdex_writes(places: Places, tmp_path: Path) -> None:
    ours, floor = (next(peer for peer in catalogue() if peer.name == name) for name in ("heimdex", "floor"))

    assert _written(places, floor, tmp_path) == _written(places, ours, tmp_path)
