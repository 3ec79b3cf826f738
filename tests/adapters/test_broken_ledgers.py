"""Ledgers that were broken by hand, past Heimdex and the database's own guards, and `heimdex verify` on them."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import frozen
from sqlalchemy.engine import make_url

from heimdex.domain.events import JobEvent
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import JsonValue, trusted
from heimdex.domain.new_job import NewJob
from heimdex.domain.operations import Retention
from heimdex.domain.outcomes import Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.results import Ending, Report
from heimdex.domain.rules import from_text, to_text
from heimdex.domain.scope import System, Tenant
from heimdex.domain.verification_rules import EVERY, OF_TRIGGER
from tests.postgres_server import PostgresServer
from tests.sql_stores import PostgresHarness, SqlHarness, SqliteHarness, admin_connection, migrated_postgres

ORG, OTHER = UUID(int=1), UUID(int=2)
WORKER, OTHER_WORKER = UUID(int=101), UUID(int=102)
OURS, THEIRS = Tenant(ORG, actor="user@example.com"), Tenant(OTHER, actor="stranger@example.org")
SYSTEM = System(actor="worker-1", reason="a worker serves every organisation", source=f"worker {WORKER}")
LEASE = timedelta(seconds=30)
FAIL = Fail("boom", "it broke")


@frozen
class Broken:
    """One job, to be broken: its history as Heimdex wrote it, and statements to write something else."""

    job_id: UUID
    events: Sequence[JobEvent]
    execute: Callable[[str], None]

    def row(self, assignments: str) -> None:
        self.execute(f"UPDATE job SET {assignments} WHERE id = '{self.job_id.hex}'")  # noqa: S608 - of this test

    def event(self, seq: int, assignments: str) -> None:
        self.execute(
            f"UPDATE job_event SET {assignments} WHERE job_id = '{self.job_id.hex}' AND seq = {seq}"  # noqa: S608 - as above
        )

    def detail(self, seq: int, **changes: JsonValue) -> None:
        text = trusted(self.events[seq - 1].detail | changes)
        self.event(seq, f"detail_json = '{text}'")

    def events_gone(self, condition: str) -> None:
        self.execute(f"DELETE FROM job_event WHERE job_id = '{self.job_id.hex}' AND {condition}")  # noqa: S608 - as above

    def row_gone_while_running(self) -> None:
        self.events_gone("seq > 17")
        self.execute(f"DELETE FROM job WHERE id = '{self.job_id.hex}'")  # noqa: S608 - as above

    def ts(self, seq: int) -> datetime:
        return self.events[seq - 1].ts


# The history of each job before it is broken. A release and a claim after it have no time between them.
LIFE = (
    *("create", "claim", "progress", "fail", "retry", "claim", "snooze", "claim", "release", "claim"),
    *("request_cancel", "cancel", "retry_by_hand", "claim", "expire", "retry", "claim", "succeed"),
)


def at_another_time(job: Broken, seq: int, delay: int) -> None:
    job.detail(seq, delay_ms=delay, scheduled_at=to_text(job.ts(seq) + timedelta(milliseconds=delay)))


BREAKS: Mapping[str, Callable[[Broken], None]] = {
    "gap": lambda job: job.events_gone("seq = 3"),
    "starts_with_create": lambda job: job.event(1, "trigger = 'log', prev_status = 'running', next_status = 'running'"),
    "status_does_not_follow": lambda job: job.event(13, "prev_status = 'dead_letter'"),
    "illegal_move": lambda job: job.event(3, "trigger = 'bury'"),
    "end_status_left_without_retry_by_hand": lambda job: job.event(13, "trigger = 'release'"),
    "wrong_next_status": lambda job: job.event(18, "next_status = 'failed'"),
    "one_organisation": lambda job: job.event(9, f"org_id = '{OTHER.hex}'"),
    "time_runs_backwards": lambda job: job.event(8, "ts = '2025-01-01 00:00:00.000000'"),
    "unreadable_event": lambda job: job.event(9, "detail_json = '[]'"),
    "attempt_not_counted": lambda job: job.detail(6, attempt=1),
    "attempt_beyond_max": lambda job: job.detail(1, max_attempts=1),
    "attempt_not_given_back": lambda job: job.detail(7, attempt=2),
    "attempt_changed": lambda job: job.detail(18, attempt=9),
    "crashes_not_counted": lambda job: job.detail(15, crashes=0),
    "crashes_changed": lambda job: job.detail(16, crashes=2),
    "not_started_anew": lambda job: job.detail(13, attempt=1),
    "lease_seq_of_latest_claim": lambda job: job.detail(18, lease_seq=14),
    "lease_ends_before_it_begins": lambda job: job.detail(17, lease_until=to_text(job.ts(17))),
    "finished_by_another_worker": lambda job: job.event(18, f"source = 'worker {OTHER_WORKER}'"),
    "cancel_forgotten": lambda job: job.event(12, "trigger = 'fail', next_status = 'failed'"),
    "canceled_unasked": lambda job: job.event(11, "trigger = 'log'"),
    "cancel_requested_twice": lambda job: job.event(3, "trigger = 'request_cancel', reason = 'again'"),
    "retry_without_failure": lambda job: job.event(5, f"ts = '{written(job.ts(6))}'"),
    "retried_wrongly": lambda job: job.detail(1, backoff_policy="none"),
    "buried_wrongly": lambda job: job.event(5, "trigger = 'bury', next_status = 'dead_letter'"),
    "rests_in_failed_wrongly": lambda job: job.events_gone("seq > 15"),
    "wrong_delay": lambda job: job.detail(9, delay_ms=5),
    "delay_outside_policy": lambda job: at_another_time(job, 5, 1),
    "failed_without_error": lambda job: job.detail(4, last_error_code=""),
    "progress_out_of_range": lambda job: job.detail(3, progress=101),
    "without_a_reason": lambda job: job.event(13, "reason = NULL"),
    "row_differs": lambda job: job.row("priority = 7"),
    "payload_digest": lambda job: job.row("payload = '{}'"),
    "result_digest": lambda job: job.row("result = '[2]'"),
    "running_without_lease": lambda job: job.row(f"claimed_by = '{WORKER.hex}'"),
    "row_without_history": lambda job: job.events_gone("seq > 0"),
    "history_without_row": lambda job: job.row_gone_while_running(),
    "unreadable_row": lambda job: job.row("created_at = '20000-01-01 00:00:00.000000'"),
}
# Those that are found by nothing else, but that the row may no longer agree. After others the next event no longer
# follows, or counts from what was said.
ALONE = {
    *("gap", "status_does_not_follow", "time_runs_backwards", "unreadable_event", "lease_seq_of_latest_claim"),
    *("lease_ends_before_it_begins", "finished_by_another_worker", "delay_outside_policy", "failed_without_error"),
    *("progress_out_of_range", "without_a_reason", "row_differs", "payload_digest", "result_digest", "wrong_delay"),
    *("running_without_lease", "row_without_history", "history_without_row", "unreadable_row", "crashes_changed"),
}


def written(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


def live(store: SqlHarness, number: int) -> list[UUID]:
    """Let so many jobs live as LIFE says, together."""

    def end(outcome: Outcome) -> None:
        with store.unit_of_work(SYSTEM) as uow:
            uow.jobs.finish([Ending(job, outcome) for job in held])

    def claim() -> list[Any]:
        with store.unit_of_work(SYSTEM) as uow:
            return [uow.jobs.claim(job_id, worker=WORKER, lease=LEASE) for job_id in ids]

    with store.unit_of_work(OURS) as uow:
        ids = [created.job.id for created in uow.jobs.create_many([NewJob("t", {"n": 1})] * number)]
    held = claim()
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.report([Report(job.hold, Progress("reading", 40)) for job in held])
    end(FAIL)
    store.advance(timedelta(seconds=10))
    for outcome in (Snooze(timedelta(seconds=1)), Release("the worker stops")):
        held = claim()
        end(outcome)
        store.advance(timedelta(seconds=1))
    held = claim()
    with store.unit_of_work(OURS) as uow:
        uow.jobs.cancel_matching(JobFilter(), reason="not wanted")
    end(FAIL)
    with store.unit_of_work(OURS) as uow:
        uow.jobs.retry_matching(JobFilter(), reason="wanted after all")
    claim()
    store.advance(LEASE)
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.expire(limit=number)
    held = claim()
    end(Succeed("[1]"))
    return ids


def break_all(store: SqlHarness, ids: Sequence[UUID]) -> None:
    with store.views(SYSTEM) as views:
        histories = views.histories(ids)
    assert tuple(event.trigger for event in histories[ids[0]]) == LIFE

    def all_with(execute: Callable[[str], None]) -> None:
        for job_id, break_ in zip(ids, BREAKS.values(), strict=True):
            break_(Broken(job_id, histories[job_id], execute))

    url = make_url(store.url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as file, file:
            triggers = file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                file.execute(f"DROP TRIGGER {name}")
            file.execute("PRAGMA ignore_check_constraints=ON")
            all_with(lambda statement: expect_some(file.execute(statement).rowcount))
    else:
        with closing(admin_connection(store.url)) as server, server.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("ALTER TABLE job DROP CONSTRAINT ck_job_lease")

            def execute(statement: str) -> None:
                cursor.execute(statement)
                expect_some(cursor.rowcount)

            all_with(execute)


def expect_some(rows: int) -> None:
    assert rows


def verify(store: SqlHarness, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "heimdex", "verify", "--json", "--database-url", store.url, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.stdout, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return run.returncode, found


def sqlite_harness(request: pytest.FixtureRequest, folder: Path) -> SqlHarness:
    return SqliteHarness(request.getfixturevalue("migrated_sqlite_file"), folder)


def postgres_harness(request: pytest.FixtureRequest, _: Path) -> SqlHarness:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    # A database of its own, whose checks can be dropped.
    return PostgresHarness(migrated_postgres(server))


@pytest.fixture(scope="module", params=[sqlite_harness, postgres_harness], ids=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHarness]:
    harness: SqlHarness = request.param(request, tmp_path_factory.mktemp("broken"))
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def found(store: SqlHarness) -> Mapping[str, set[str]]:
    """Return, for each rule, by which rules its broken job was found, in a ledger with all of them."""
    ids = live(store, len(BREAKS))
    with store.unit_of_work(THEIRS) as uow:
        sound = uow.jobs.create("t").job.id
    assert verify(store)[0] == 0
    break_all(store, ids)

    code, answer = verify(store, "--limit", "1000")
    rules: dict[str, set[str]] = {rule: set() for rule in BREAKS}
    names = dict(zip(map(str, ids), BREAKS, strict=True))
    for finding in answer["findings"]:
        assert finding["job_id"] != str(sound)
        rules[names[finding["job_id"]]].add(finding["rule"])
    assert code == 1
    assert answer["broken"] == len(BREAKS)
    assert sum(answer["rules"].values()) == len(answer["findings"])
    return rules


@pytest.mark.parametrize("rule", BREAKS)
def test_a_ledger_broken_by_hand_is_found_by_its_rule(found: Mapping[str, set[str]], rule: str) -> None:
    assert rule in found[rule]
    if rule in ALONE:
        assert found[rule] <= {rule, "row_differs"}


def test_there_is_a_broken_ledger_for_each_rule() -> None:
    of_rows = {"row_differs", "payload_digest", "result_digest", "running_without_lease", "row_without_history"}
    of_rows |= {"history_without_row", "unreadable_event", "unreadable_row"}
    of_events = {rule.__name__ for several in (EVERY, *OF_TRIGGER.values()) for rule in several}
    assert set(BREAKS) == of_events | of_rows


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def whole(request: pytest.FixtureRequest) -> SqlHarness:
    harness: SqlHarness = request.getfixturevalue(request.param)
    return harness


def test_a_pruned_and_an_erased_ledger_are_sound(whole: SqlHarness) -> None:
    live(whole, 3)
    with whole.unit_of_work(THEIRS) as uow:
        uow.jobs.create("t")
    whole.advance(timedelta(days=40))
    with whole.unit_of_work(SYSTEM) as uow:
        uow.maintenance.prune_jobs(Retention(), limit=2)
    _, pruned = verify(whole)
    with whole.unit_of_work(SYSTEM) as uow:
        uow.maintenance.erase(UUID(int=9), OTHER, reason="contract ended", limit=100)
    code, erased = verify(whole)

    assert (pruned["sound"], pruned["jobs"], pruned["pruned"], pruned["organisations"]) == (True, 2, 2, 2)
    assert (code, erased["jobs"], erased["organisations"]) == (0, 1, 1)


def test_a_time_carried_by_events_is_that_of_the_database(whole: SqlHarness) -> None:
    # What `retry_without_failure` and `time_runs_backwards` rest on.
    [job_id] = live(whole, 1)
    with whole.views(SYSTEM) as views:
        events = views.history(job_id)

    assert events[4].ts == events[3].ts
    assert from_text(str(events[4].detail["scheduled_at"])) > events[4].ts


@pytest.mark.parametrize("value", ["'zzz'", "12345", "x'00ff'"])
def test_an_id_that_is_none_is_found_and_hides_nobody(sqlite_store: SqlHarness, value: str) -> None:
    ids = live(sqlite_store, 3)
    connection = sqlite3.connect(sqlite_store.url.removeprefix("sqlite:///"))
    with connection:
        connection.execute(f"UPDATE job SET id = {value} WHERE id = '{ids[0].hex}'")  # noqa: S608 - as above
    connection.close()

    code, answer = verify(sqlite_store)

    assert (code, answer["rules"]["unreadable_row"]) == (1, 1)
    assert answer["jobs"] >= 2
