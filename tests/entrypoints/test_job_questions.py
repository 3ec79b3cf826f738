"""`heimdex job stats` and `heimdex job why`."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.commands import ClaimJobs, MarkWorkerSeen
from heimdex.domain.scope import System
from heimdex.domain.waiting import BlockerKind
from tests.entrypoints.conftest import ORG, Heimdex

MISSING = UUID("018f3c6e-0000-7000-8000-0000000000cc")
OTHER = UUID("018f3c6e-0000-7000-8000-0000000000aa")
WORKER = UUID("018f3c6e-0000-7000-8000-0000000000bb")
SYSTEM = System(actor="worker", reason="a test")

Create = Callable[..., UUID]


def _a_worker_lives(application: Application, *types: str) -> None:
    application.handle(
        MarkWorkerSeen(scope=SYSTEM, worker=WORKER, name="w1", types=frozenset(types), queues=frozenset())
    )


def test_jobs_are_counted_by_status_and_by_type(here: Heimdex, create: Create, application: Application) -> None:
    for type in ("video.cut", "video.cut", "mail.welcome"):
        create(type)
    create("video.cut", org_id=OTHER)
    _a_worker_lives(application, "mail.welcome")

    ran = here("job", "stats")
    answer = json.loads(here("job", "stats", "--json").out)

    lines = [line.split() for line in ran.out.splitlines()]
    assert ran.code == 0
    assert ["queued", "3"] in lines
    assert ["without", "a", "worker", "video.cut"] in lines
    assert ["type", "queued", "running", "succeeded", "failed", "canceled", "dead_letter"] in lines
    assert lines[-2:] == [["mail.welcome", "1", *"00000"], ["video.cut", "2", *"00000"]]
    assert (answer["by_status"]["queued"], answer["by_type"]["video.cut"]) == (3, {"queued": 2})
    assert answer["unserved_types"] == ["video.cut"]


def test_the_statistics_of_nothing_are_an_answer(here: Heimdex) -> None:
    ran = here("job", "stats")

    assert ran.code == 0
    assert ran.out.splitlines()[-1].split() == ["without", "a", "worker", "no", "type"]


def test_a_job_that_waits_for_a_slot_alone_waits_for_nothing(
    here: Heimdex, create: Create, application: Application
) -> None:
    job_id = create()
    _a_worker_lives(application, "video.cut")

    assert here("job", "why", job_id).out == "nothing: the next free slot takes it\n"
    assert json.loads(here("job", "why", job_id, "--json").out) == {"job_id": str(job_id), "blockers": []}


def test_every_blocker_is_named_with_its_end(here: Heimdex, create: Create) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    job_id = create(queue="slow", scheduled_at=tomorrow)
    here("queue", "pause", "slow", "--reason", "a leak")

    ran = here("job", "why", job_id)
    answer = json.loads(here("job", "why", job_id, "--json").out)

    heading, *lines = ran.out.splitlines()
    assert (ran.code, heading.split()) == (0, ["blocker", "until", "why"])
    assert [line.split()[0] for line in lines] == ["scheduled", "paused", "no_worker"]
    assert f"{tomorrow:%Y-%m-%d %H:%M:%SZ}" in lines[0]
    assert lines[1].endswith(": a leak")
    assert [blocker["kind"] for blocker in answer["blockers"]] == ["scheduled", "paused", "no_worker"]
    assert [blocker["until"] is None for blocker in answer["blockers"]] == [False, True, True]


def test_a_job_that_runs_is_held_by_a_worker(here: Heimdex, create: Create, application: Application) -> None:
    job_id = create()
    lease = timedelta(seconds=30)
    application.handle(ClaimJobs(scope=SYSTEM, worker=WORKER, types=frozenset({"video.cut"}), lease=lease, limit=1))

    [blocker] = json.loads(here("job", "why", job_id, "--json").out)["blockers"]

    assert (blocker["kind"], str(WORKER) in blocker["text"]) == ("running", True)


def test_a_job_that_cannot_be_seen_is_not_found(here: Heimdex, create: Create) -> None:
    for job_id in (MISSING, create(org_id=OTHER)):
        ran = here("job", "why", job_id)

        assert (ran.code, ran.out) == (1, "")
        assert "was not found" in ran.err


@pytest.mark.parametrize(
    ("revision", "said"), [("9999", "install a newer Heimdex"), ("0001", "run `heimdex db upgrade`")]
)
def test_a_schema_that_is_not_ours_is_the_blocker(
    here: Heimdex, create: Create, application: Application, url: str, revision: str, said: str
) -> None:
    job_id = create()
    application.close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE heimdex_version SET version_num = ?", (revision,))

    ran = here("job", "why", job_id)
    [blocker] = json.loads(here("job", "why", job_id, "--json").out)["blockers"]

    assert (ran.code, ran.err) == (0, "")
    assert said in ran.out
    assert (blocker["kind"], said in blocker["text"], blocker["until"]) == (BlockerKind.SCHEMA, True, None)


def test_a_database_without_a_schema_is_the_blocker(heimdex: Heimdex) -> None:
    ran = heimdex("job", "why", MISSING, "--org", ORG)

    assert ran.code == 0
    assert "run `heimdex db upgrade`" in ran.out
