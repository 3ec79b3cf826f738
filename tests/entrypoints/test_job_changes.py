"""`heimdex job create`, `cancel` and `retry`: what they change, and when they ask first."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Fail
from heimdex.domain.results import Ending
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from tests.entrypoints.conftest import ORG, Heimdex, Terminal

OTHER = UUID("018f3c6e-0000-7000-8000-0000000000aa")
WORKER = UUID("018f3c6e-0000-7000-8000-0000000000bb")
MISSING = UUID("018f3c6e-0000-7000-8000-0000000000cc")
SYSTEM = System(actor="worker", reason="a test")
WHY = ("--reason", "the customer asked")

Create = Callable[..., UUID]


def _job(application: Application, job_id: UUID | str) -> Job:
    with application.unit_of_work(SYSTEM) as uow:
        return uow.jobs.get(UUID(str(job_id)))


def _claim(application: Application, job_id: UUID) -> Job:
    with application.unit_of_work(SYSTEM) as uow:
        return uow.jobs.claim(job_id, worker=WORKER, lease=timedelta(seconds=30))


def _fail(application: Application, job_id: UUID) -> None:
    job = _claim(application, job_id)
    with application.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(job, Fail("boom", "it broke", permanent=True))])


def _statuses(application: Application, *job_ids: UUID) -> list[Status]:
    return [_job(application, job_id).status for job_id in job_ids]


# create


def test_a_job_is_created_with_what_is_given(here: Heimdex, application: Application) -> None:
    ran = here(
        *("job", "create", "video.cut", '{"video": "v1"}', "--queue", "slow", "--priority", "-3", "--key", "k-1"),
        *("--at", "2030-01-31T08:00:00+01:00", "--requested-by", "ann", "--max-attempts", "2"),
    )

    job_id, what = ran.out.split()
    job = _job(application, job_id)
    assert (ran.code, ran.err, what) == (0, "", "created")
    assert (job.org_id, job.type, job.payload, job.queue, job.priority) == (
        ORG,
        "video.cut",
        {"video": "v1"},
        "slow",
        -3,
    )
    assert (job.idempotency_key, job.requested_by, job.max_attempts) == ("k-1", "ann", 2)
    assert job.scheduled_at.isoformat() == "2030-01-31T07:00:00+00:00"


def test_a_second_create_with_a_key_is_a_replay(here: Heimdex) -> None:
    first, second = (json.loads(here("job", "create", "video.cut", "--key", "k", "--json").out) for _ in range(2))

    assert (first["replayed"], second["replayed"]) == (False, True)
    assert first["job"]["id"] == second["job"]["id"]
    assert here("job", "create", "video.cut", "--key", "k").out == f"{first['job']['id']} replayed\n"
    assert here("job", "create", "mail.welcome", "--key", "k").code == 1


def test_a_payload_may_come_through_stdin(
    here: Heimdex, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"video":\n "v2"}'))

    created = here("job", "create", "video.cut", "-").out.split()[0]

    assert _job(application, created).payload == {"video": "v2"}


def test_with_a_registry_a_job_is_as_its_type_says(
    here: Heimdex, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_JOBS", "tests.entrypoints.tasks:jobs")

    unknown = here("job", "create", "video.cut")
    limited = here("job", "create", "video.cut", "--max-attempts", "2")
    as_registered = here("job", "create", "mail.digest")
    fewer = here("job", "create", "mail.digest", "--max-attempts", "2")

    for ran in (unknown, limited):
        assert (ran.code, ran.out) == (2, "")
        assert "'video.cut' is not registered" in ran.err
    first, second = (_job(application, ran.out.split()[0]) for ran in (as_registered, fewer))
    assert (first.max_attempts, first.timeout) == (3, timedelta(seconds=7))
    assert (second.max_attempts, second.timeout) == (2, timedelta(seconds=7))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{"], "payload: at $: is not JSON"),
        (['{"a": NaN}'], "payload: at $: is not JSON"),
        (['{"a": "\\ud800"}'], "payload: at $.a"),
        (["--at", "tomorrow"], "--at: 'tomorrow' is not accepted; give a date and a time with its offset"),
        (["--at", "2030-01-31T08:00:00"], "--at: '2030-01-31T08:00:00' is not accepted"),
        (["--priority", "40000"], "priority: 40000 is not accepted"),
        (["--max-attempts", "0"], "max_attempts: 0 is not accepted"),
        (["--queue", ""], "queue: '' is not accepted"),
        (["--key", "a\nb"], "idempotency_key:"),
        (["--database-url", "memory://"], "--database-url: 'memory://' is not accepted"),
    ],
)
def test_a_job_that_breaks_a_rule_is_not_created(
    here: Heimdex, application: Application, arguments: list[str], said: str
) -> None:
    ran = here("job", "create", "video.cut", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    with application.views(SYSTEM) as views:
        assert sum(views.statistics().by_status.values()) == 0


# one job


def test_a_queued_job_is_canceled_and_the_reason_is_kept(
    here: Heimdex, create: Create, application: Application
) -> None:
    job_id = create()

    ran = here("job", "cancel", job_id, *WHY)

    assert (ran.code, ran.out, ran.err) == (0, f"{job_id} canceled\n", "")
    with application.views(Tenant(ORG, actor="a")) as views:
        last = views.history(job_id)[-1]
    assert (last.trigger, last.reason, last.source) == ("cancel", "the customer asked", "heimdex job cancel")


def test_a_running_job_is_asked_to_stop(here: Heimdex, create: Create, application: Application) -> None:
    job_id = create()
    _claim(application, job_id)

    ran = here("job", "cancel", job_id, *WHY)

    assert (ran.code, ran.out) == (0, f"{job_id} running: it is asked to stop\n")
    assert _job(application, job_id).cancel_requested_at is not None


def test_a_job_that_failed_is_queued_again(here: Heimdex, create: Create, application: Application) -> None:
    job_id = create()
    _fail(application, job_id)

    answer = json.loads(here("job", "retry", job_id, *WHY, "--json").out)

    assert (answer["job"]["status"], answer["job"]["attempt"]) == ("queued", 0)


@pytest.mark.parametrize(("verb", "move"), [("cancel", _fail), ("retry", lambda *_: None)])
def test_what_the_state_machine_refuses_is_refused(
    here: Heimdex, create: Create, application: Application, verb: str, move: Callable[[Application, UUID], None]
) -> None:
    job_id = create()
    move(application, job_id)

    ran = here("job", verb, job_id, *WHY)

    assert (ran.code, ran.out) == (1, "")
    assert "is not possible" in ran.err


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_job_of_another_organisation_is_not_found(here: Heimdex, create: Create, verb: str) -> None:
    for job_id in (MISSING, create(org_id=OTHER)):
        ran = here("job", verb, job_id, *WHY)

        assert (ran.code, ran.out) == (1, "")
        assert "was not found" in ran.err


# many


def test_many_are_canceled_and_what_has_ended_is_passed_over(
    here: Heimdex, create: Create, application: Application
) -> None:
    queued, running, failed, other_type = create(), create(), create(), create("mail.welcome")
    foreign = create(org_id=OTHER)
    _claim(application, running)
    _fail(application, failed)

    ran = here("job", "cancel", "--type", "video.cut", *WHY, "--yes", "--json")

    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"counted": 2, "changed": 2}
    assert _statuses(application, queued, running, failed, other_type, foreign) == [
        Status.CANCELED,
        Status.RUNNING,
        Status.FAILED,
        Status.QUEUED,
        Status.QUEUED,
    ]


@pytest.mark.parametrize("option", ["--status", "--queue", "--requested-by", "--parent", "--created-from"])
def test_many_are_chosen_as_a_list_is(here: Heimdex, create: Create, application: Application, option: str) -> None:
    parent = create()
    wanted = create(queue="slow", requested_by="ann", parent_id=parent)
    _fail(application, wanted)
    others = [create(), create()]
    values = {"--status": "failed", "--queue": "slow", "--requested-by": "ann", "--parent": parent}
    value = (values | {"--created-from": "2026-01-01T00:00:00Z"})[option]

    ran = here("job", "retry", option, value, *WHY, "--yes")

    assert (ran.code, ran.out.split()) == (0, ["counted", "1", "changed", "1"])
    assert set(_statuses(application, parent, wanted, *others)) == {Status.QUEUED}


def test_all_is_asked_for_by_that_word(here: Heimdex, create: Create, application: Application) -> None:
    jobs = [create(), create("mail.welcome")]

    assert here("job", "cancel", "--all", *WHY, "--yes").out.split() == ["counted", "2", "changed", "2"]
    assert here("job", "retry", "--all", *WHY, "--yes").out.split() == ["counted", "2", "changed", "2"]
    assert set(_statuses(application, *jobs)) == {Status.QUEUED}


def test_a_dry_run_counts_and_changes_nothing(here: Heimdex, create: Create, application: Application) -> None:
    job_id = create()

    assert here("job", "cancel", "--all", *WHY, "--dry-run").out.split() == ["counted", "1", "changed", "0"]
    assert json.loads(here("job", "retry", "--all", *WHY, "--dry-run", "--json").out) == {"counted": 0, "changed": 0}
    assert _statuses(application, job_id) == [Status.QUEUED]


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_at_a_terminal_the_number_is_shown_and_somebody_is_asked(
    here: Heimdex, create: Create, application: Application, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    job_id = create()
    monkeypatch.setattr("sys.stdin", Terminal(typed))

    ran = here("job", "cancel", "--status", "queued", *WHY)

    assert ran.code == code
    assert ran.err.startswith("This will cancel 1 jobs. Go on? [y/N] ")
    assert ran.err.endswith("Nothing was changed.\n" if code else "[y/N] ")
    assert bool(ran.out) is (code == 0)
    assert _statuses(application, job_id) == [Status.QUEUED if code else Status.CANCELED]


@pytest.mark.parametrize(("stdin", "form"), [(io.StringIO("y\n"), []), (Terminal("y\n"), ["--json"])])
def test_where_nobody_can_be_asked_yes_is_needed(
    here: Heimdex,
    create: Create,
    application: Application,
    monkeypatch: pytest.MonkeyPatch,
    stdin: io.StringIO,
    form: list[str],
) -> None:
    job_id = create()
    monkeypatch.setattr("sys.stdin", stdin)

    ran = here("job", "cancel", "--all", *WHY, *form)

    assert (ran.code, ran.out) == (2, "")
    assert "add --yes" in ran.err
    assert _statuses(application, job_id) == [Status.QUEUED]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*WHY, "--yes"], "or --all"),
        ([MISSING, "--all", *WHY, "--yes"], "one of these alone"),
        ([MISSING, "--type", "video.cut", *WHY], "one of these alone"),
        (["--all", "--type", "video.cut", *WHY, "--yes"], "one of these alone"),
        ([MISSING, "--dry-run", *WHY], "--dry-run counts jobs"),
        (["--all", "--yes"], "Missing option '--reason'"),
        (["--all", "--yes", "--reason", ""], "reason: '' is not accepted"),
    ],
)
@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_choice_that_is_unclear_changes_nothing(
    here: Heimdex, create: Create, application: Application, verb: str, arguments: list[object], said: str
) -> None:
    queued, failed = create(), create()
    _fail(application, failed)

    ran = here("job", verb, *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert _statuses(application, queued, failed) == [Status.QUEUED, Status.FAILED]
