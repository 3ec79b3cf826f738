"""`heimdex bench`: what it measures, and that it leaves a ledger as it was."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from threading import Timer
from uuid import UUID

import pytest

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.scope import System
from heimdex.entrypoints.cli import benching
from tests.entrypoints.conftest import Heimdex
from tests.postgres_server import PostgresServer

SYSTEM = System(actor="a test", reason="what is left")
TABLES = ("job", "job_event", "job_refusal", "asset", "worker", "paused_queue", "pruning")

Create = Callable[..., UUID]


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_POLL_SECONDS", "0.02")


def _rows(url: str) -> dict[str, int]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        return {table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}  # noqa: S608 - of this test


def test_it_says_how_many_jobs_a_second_and_leaves_none_of_them(
    here: Heimdex, url: str, create: Create, application: Application
) -> None:
    mine = create()
    before = _rows(url)

    ran = here("bench", "--jobs", 200)

    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert [line.split("  ")[0] for line in lines[5:8]] == ["create, one by one", "create, in bulk", "run"]
    assert [line.split()[-3] for line in lines[5:8]] == ["20", "180", "200"]
    assert "times on an idle worker: median" in ran.out
    assert lines[-1].startswith("Removed: ")
    assert _rows(url) == before
    with application.views(SYSTEM) as views:
        assert (job := views.find(mine)) is not None
        assert (job.status, job.version) == ("queued", 1)
        [erasure] = views.erasures()
    assert (erasure.reason, erasure.removed.events) == ("made by heimdex bench", 3 * erasure.removed.jobs)


def test_as_json_it_says_the_same(here: Heimdex) -> None:
    said = json.loads(here("bench", "--jobs", 100, "--batch", 50, "--json").out)

    assert (said["workers"], said["batch"], said["unfinished"]) == (1, 50, 0)
    assert [(one["what"], one["jobs"]) for one in said["figures"]] == [
        ("create, one by one", 10),
        ("create, in bulk", 90),
        ("run", 100),
    ]
    assert all(one["per_second"] > 0 for one in said["figures"])
    assert said["removed"]["jobs"] == 100 + said["pickups"] == 120
    assert 0 < said["pickup_median_ms"] <= said["pickup_longest_ms"]


def test_what_is_kept_can_be_looked_at_and_erased(here: Heimdex, url: str, heimdex: Heimdex) -> None:
    said = json.loads(here("bench", "--jobs", 100, "--keep", "--json").out)

    assert said["removed"] is None
    assert json.loads(heimdex("job", "list", "--org", said["org_id"], "--queue", said["queue"], "--json").out)
    assert heimdex("org", "erase", said["org_id"], "--reason", "bench", "--yes").code == 0
    assert not any(_rows(url).values())


def test_other_processes_work_beside_this_one(here: Heimdex, url: str) -> None:
    said = json.loads(here("bench", "--jobs", 200, "--workers", 2, "--batch", 10, "--json").out)

    assert (said["workers"], said["unfinished"]) == (2, 0)
    assert not any(_rows(url).values())


def test_on_memory_there_is_one_process_only(heimdex: Heimdex) -> None:
    alone = heimdex("bench", "--jobs", 100, "--database-url", "memory://")
    two = heimdex("bench", "--workers", 2, "--database-url", "memory://")

    assert alone.code == 0, alone.err
    assert (two.code, two.out) == (2, "")
    assert "no other process can work on this memory" in two.err


def test_without_a_schema_nothing_is_made(heimdex: Heimdex) -> None:
    ran = heimdex("bench", "--database-url", "sqlite:///empty.db")

    assert (ran.code, ran.out) == (3, "")
    assert "run `heimdex db upgrade`" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(
    here: Heimdex, url: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("HEIMDEX_POLL_SECONDS", "60")  # the worker finds the first job by no means so soon
    kill = Timer(1.0, os.kill, (os.getpid(), number))
    kill.start()

    ran = here("bench")
    kill.join()

    assert (ran.code, ran.out, ran.err) == (130, "", "heimdex: interrupted\n")
    assert not any(_rows(url).values())


def test_what_is_not_finished_in_time_has_no_rate(here: Heimdex, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "_DRAIN_SECONDS", 0.0)

    ran = here("bench", "--jobs", 100)

    assert ran.code == 1
    assert "100 jobs were not finished in time" in ran.out
    assert not any(_rows(url).values())


def test_it_runs_on_postgresql(heimdex: Heimdex, postgres_server: PostgresServer) -> None:
    name = postgres_server.fresh_name("bench")
    postgres_server.create_database(name)
    url = postgres_server.url(name)
    assert heimdex("db", "upgrade", "--database-url", url).code == 0

    said = json.loads(heimdex("bench", "--jobs", 500, "--database-url", url, "--json").out)

    assert said["unfinished"] == 0
    with bootstrap(load({"HEIMDEX_DATABASE_URL": url})) as app, app.views(SYSTEM) as views:
        assert views.count(JobFilter()) == 0
    postgres_server.drop_database(name)
