"""`heimdex worker`: what it runs, when it stops, what it refuses."""

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Timer
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.job import Job
from heimdex.domain.scope import Tenant
from tests.entrypoints.conftest import ORG, Heimdex

Create = Callable[..., UUID]


@pytest.fixture(autouse=True)
def _jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_JOBS", "tests.entrypoints.tasks:jobs")


def _job(application: Application, job_id: UUID) -> Job:
    with application.views(Tenant(ORG, actor="user@example.com")) as views:
        job = views.find(job_id)
    assert job is not None
    return job


def test_a_draining_worker_runs_what_is_there_and_stops(
    here: Heimdex, create: Create, application: Application
) -> None:
    welcome, bounce = create("mail.welcome", {"to": "a"}), create("mail.bounce")

    ran = here("worker", "--drain")

    assert (ran.code, ran.out) == (0, "")
    assert _job(application, welcome).result == {"sent_to": "a"}
    assert _job(application, bounce).last_error_code == "bounced"


def test_a_draining_worker_leaves_types_that_it_does_not_know(
    here: Heimdex, create: Create, application: Application
) -> None:
    unknown = create("video.cut")

    assert here("worker", "--drain").code == 0
    assert _job(application, unknown).status == "queued"


def test_a_draining_worker_waits_for_jobs_that_are_not_due_yet(
    here: Heimdex, create: Create, application: Application
) -> None:
    later = create("mail.welcome", {}, scheduled_at=datetime.now(UTC) + timedelta(seconds=0.7))

    assert here("worker", "--drain").code == 0
    assert _job(application, later).status == "succeeded"


def test_a_worker_of_some_queues_drains_only_those(here: Heimdex, create: Create, application: Application) -> None:
    fast, mail, other = (create("mail.welcome", {}, queue=queue) for queue in ("fast", "mail", "other"))

    ran = here("worker", "--drain", "--queue", "fast", "--queue", "mail")

    assert ran.code == 0
    assert [_job(application, job).status for job in (fast, mail, other)] == ["succeeded", "succeeded", "queued"]


def test_a_worker_in_json_says_who_it_was(here: Heimdex, create: Create) -> None:
    ran = here("worker", "--drain", "--name", "w1", "--concurrency", "2", "--queue", "q", "--json")

    answer = json.loads(ran.out)
    assert (answer["name"], answer["queues"], answer["signal"], answer["exit_code"]) == ("w1", ["q"], None, 0)
    assert {"mail.bounce", "mail.welcome"} <= set(answer["types"])
    assert UUID(answer["worker"]).version == 7
    assert all(json.loads(line)["logger"] == "heimdex.worker" for line in ran.err.splitlines())


def test_what_a_job_function_prints_is_not_in_the_json_answer(here: Heimdex, create: Create) -> None:
    create("mail.noisy")

    quiet = here("worker", "--drain", "--json")
    create("mail.noisy")
    for_people = here("worker", "--drain")

    assert json.loads(quiet.out)["exit_code"] == 0
    assert "this is no JSON" in quiet.err.splitlines()
    assert for_people.out == "this is no JSON\n"


def test_without_job_functions_a_worker_says_what_to_set(here: Heimdex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEIMDEX_JOBS")
    # As on a machine where no installed package offers any.
    monkeypatch.setattr("heimdex.bootstrap.JOBS_GROUP", "heimdex.none")

    ran = here("worker", "--drain")

    assert (ran.code, ran.out) == (2, "")
    assert "no job functions are known: set HEIMDEX_JOBS" in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_stops_a_worker(here: Heimdex, number: signal.Signals, code: int) -> None:
    Timer(0.5, os.kill, (os.getpid(), number)).start()

    ran = here("worker", "--json")

    assert ran.code == code
    assert json.loads(ran.out)["signal"] == number.name


def test_memory_is_refused(here: Heimdex) -> None:
    ran = here("worker", "--database-url", "memory://")

    assert (ran.code, ran.out) == (2, "")
    assert "--database-url: 'memory://' is not accepted" in ran.err


def test_a_worker_without_a_schema_does_not_start(heimdex: Heimdex) -> None:
    ran = heimdex("worker", "--drain")

    assert (ran.code, ran.out) == (3, "")
    assert "run `heimdex db upgrade`" in ran.err


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere.at.all:jobs", "name one that can be imported"),
        ("tests.entrypoints.tasks:nothing", "name one that can be imported"),
        ("tests.entrypoints.tasks:not_jobs", "name a JobRegistry"),
        ("tests", "give module:attribute"),
    ],
)
def test_job_functions_that_cannot_be_had_are_bad_input(
    here: Heimdex, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    monkeypatch.setenv("HEIMDEX_JOBS", place)

    ran = here("worker", "--drain")

    assert (ran.code, ran.out) == (2, "")
    assert f"HEIMDEX_JOBS: '{place}' is not accepted" in ran.err
    assert said in ran.err


@pytest.mark.parametrize("option", ["--queue", "--name"])
def test_names_that_cannot_be_kept_are_bad_input(here: Heimdex, option: str) -> None:
    ran = here("worker", "--drain", option, "a\nb")

    assert ran.code == 2
    assert "printable" in ran.err
