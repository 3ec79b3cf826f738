"""`heimdex job`: what it shows, and of whom."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.outcomes import Fail
from heimdex.domain.results import Ending
from heimdex.domain.scope import System
from tests.entrypoints.conftest import Heimdex

OTHER = UUID("018f3c6e-0000-7000-8000-0000000000aa")
WORKER = UUID("018f3c6e-0000-7000-8000-0000000000bb")
MISSING = UUID("018f3c6e-0000-7000-8000-0000000000cc")

Create = Callable[..., UUID]


def _claim_and_fail(application: Application, job_id: UUID, *, message: str, traceback: str) -> None:
    with application.unit_of_work(System(actor="worker", reason="a test")) as uow:
        job = uow.jobs.claim(job_id, worker=WORKER, lease=timedelta(seconds=30))
        uow.jobs.finish([Ending(job, Fail("boom", message, permanent=True, traceback=traceback))])


def test_jobs_are_listed_newest_first(here: Heimdex, create: Create) -> None:
    first, second = create("video.cut"), create("mail.welcome")

    ran = here("job", "list")

    assert ran.code == 0
    heading, *rows = ran.out.splitlines()
    assert heading.split() == ["id", "status", "type", "try", "queue", "created"]
    assert [row.split()[:5] for row in rows] == [
        [str(second), "queued", "mail.welcome", "0/5", "default"],
        [str(first), "queued", "video.cut", "0/5", "default"],
    ]


def test_a_list_in_json_has_every_column(here: Heimdex, create: Create) -> None:
    job_id = create(payload={"video": "v1"}, queue="slow", priority=3)

    answer = json.loads(here("job", "list", "--json").out)

    [job] = answer["jobs"]
    assert (job["id"], job["payload"], job["queue"], job["priority"]) == (str(job_id), {"video": "v1"}, "slow", 3)
    assert (job["timeout_ms"], job["result"]) == (900_000, None)
    assert job["created_at"].endswith("Z")
    assert answer["next_after"] is None


def test_a_list_goes_on_where_the_page_before_ended(here: Heimdex, create: Create) -> None:
    ids = [str(create()) for _ in range(5)]

    first = json.loads(here("job", "list", "--limit", "2", "--json").out)
    second = json.loads(here("job", "list", "--limit", "2", "--after", first["next_after"], "--json").out)
    third = here("job", "list", "--limit", "2", "--after", second["next_after"])

    assert [job["id"] for page in (first, second) for job in page["jobs"]] == ids[:0:-1]
    assert ids[0] in third.out
    assert third.err == ""


def test_a_list_that_is_not_the_whole_says_how_to_go_on(here: Heimdex, create: Create) -> None:
    create()
    last = create()

    ran = here("job", "list", "--limit", "1")

    assert ran.err == f"There are more: --after {last}\n"
    assert len(ran.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [("--type", "wanted"), ("--queue", "wanted"), ("--requested-by", "wanted"), ("--status", "failed")],
)
def test_a_list_can_be_narrowed(
    here: Heimdex, create: Create, application: Application, option: str, value: str
) -> None:
    create()
    different = {"--type": {"type": value}, "--queue": {"queue": value}, "--requested-by": {"requested_by": value}}
    wanted = create(**different.get(option, {}))
    if option == "--status":
        _claim_and_fail(application, wanted, message="x", traceback="y")

    answer = json.loads(here("job", "list", option, value, "--json").out)

    assert [job["id"] for job in answer["jobs"]] == [str(wanted)]


def test_children_are_listed_by_their_parent(here: Heimdex, create: Create) -> None:
    parent = create()
    child = create(parent_id=parent)

    answer = json.loads(here("job", "list", "--parent", parent, "--json").out)

    assert [job["id"] for job in answer["jobs"]] == [str(child)]


DAYS = ["--created-from", "2026-01-01T00:00:00Z", "--created-before", "2026-02-01T00:00:00Z"]


def test_jobs_are_listed_by_when_they_were_created(here: Heimdex, create: Create, application: Application) -> None:
    _, second, third = create(), create(), create()
    with application.views(System(actor="test", reason="a test")) as views:
        times = [job.created_at.isoformat() for job in views.page(JobFilter()).jobs][::-1]

    answer = json.loads(here("job", "list", "--created-from", times[1], "--json").out)
    middle = json.loads(here("job", "list", "--created-from", times[1], "--created-before", times[2], "--json").out)

    assert [job["id"] for job in answer["jobs"]] == [str(third), str(second)]
    assert [job["id"] for job in middle["jobs"]] == [str(second)]


def test_jobs_are_listed_by_a_value_in_their_payload(here: Heimdex, create: Create) -> None:
    now = datetime.now(UTC)
    wanted = create(payload={"customer": {"id": 42, "name": "a=b"}})
    create(payload={"customer": {"id": 43, "name": "a"}})
    within = [
        *["--type", "video.cut", "--created-from", now - timedelta(days=1)],
        *["--created-before", now + timedelta(days=1), "--json"],
    ]

    for payload in ("customer.id=42", 'customer.name="a=b"'):
        answer = json.loads(here("job", "list", "--payload", payload, *within).out)
        assert [job["id"] for job in answer["jobs"]] == [str(wanted)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--payload", "a=1"], "type: None is not accepted; name the type"),
        (["--payload", "a=1", "--type", "t"], "give created_from and created_before to search payloads"),
        (["--payload", "a=b", "--type", "t", *DAYS], "--payload: 'a=b' is not accepted; give a path and its value as"),
        (["--payload", "a", "--type", "t", *DAYS], "--payload: 'a' is not accepted; give a path and its value as JSON"),
        (["--payload", "0=1", "--type", "t", *DAYS], "payload path: '0' is not accepted; give names"),
        (["--payload", "a=[]", "--type", "t", *DAYS], "payload value: [] is not accepted; give a string"),
        (["--created-from", "2026-01-01"], "--created-from: '2026-01-01' is not accepted; give a date and a time with"),
        (["--created-before", "soon"], "--created-before: 'soon' is not accepted; give a date and a time with"),
    ],
)
def test_a_choice_that_is_none_says_what_is_accepted(here: Heimdex, arguments: list[str], said: str) -> None:
    ran = here("job", "list", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_an_empty_list_is_an_answer(here: Heimdex) -> None:
    assert here("job", "list").code == 0
    assert json.loads(here("job", "list", "--json").out) == {"jobs": [], "next_after": None}


def test_a_job_is_shown_with_its_documents(here: Heimdex, create: Create) -> None:
    job_id = create(payload={"video": "v1"})

    ran = here("job", "show", job_id)
    answer = json.loads(here("job", "show", job_id, "--json").out)

    shown = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1].strip() for line in ran.out.splitlines()}
    assert (shown["id"], shown["payload"]) == (str(job_id), '{"video": "v1"}')
    assert "result" not in shown
    assert (answer["payload"], answer["result"], answer["assets"], answer["refusals"]) == ({"video": "v1"}, None, [], 0)


@pytest.mark.parametrize("command", ["show", "history"])
def test_a_job_that_does_not_exist_is_not_found(here: Heimdex, command: str) -> None:
    ran = here("job", command, MISSING)

    assert (ran.code, ran.out) == (1, "")
    assert f"job {MISSING} was not found in this organisation" in ran.err


@pytest.mark.parametrize("command", ["show", "history"])
def test_a_job_of_another_organisation_is_not_found_either(here: Heimdex, create: Create, command: str) -> None:
    theirs = create(org_id=OTHER)

    assert here("job", command, theirs).code == 1
    assert here("job", command, theirs, "--org", OTHER).code == 0


def test_a_list_shows_no_job_of_another_organisation(here: Heimdex, create: Create) -> None:
    create(org_id=OTHER)

    assert json.loads(here("job", "list", "--json").out)["jobs"] == []


def test_a_history_has_every_move(here: Heimdex, create: Create, application: Application) -> None:
    job_id = create()
    _claim_and_fail(application, job_id, message="no disk", traceback="Traceback:\n  File 'x'\nNoDisk")

    ran = here("job", "history", job_id)
    answer = json.loads(here("job", "history", job_id, "--json").out)

    assert [event["trigger"] for event in answer["events"]] == ["create", "claim", "fail"]
    assert answer["events"][2]["detail"]["last_error_message"] == "no disk"
    assert answer["job_id"] == str(job_id)
    heading, *rows = ran.out.splitlines()
    assert heading.split() == ["seq", "time", "trigger", "status", "actor", "detail"]
    assert [row.split()[0] for row in rows if row[0] != " "] == ["1", "2", "3"]
    assert rows[-1].strip() == "NoDisk"
    assert "sha256" not in ran.out


def test_hostile_text_of_a_job_is_shown_as_text(here: Heimdex, create: Create, application: Application) -> None:
    job_id = create(payload={"name": "\x1b[31mred\r\u202e"})
    _claim_and_fail(application, job_id, message="\x1b]0;title\x07", traceback="\x1b[2J")

    for command in (["job", "list"], ["job", "show", job_id], ["job", "history", job_id]):
        ran = here(*command)
        assert ran.code == 0
        assert not any(control in ran.out for control in "\x1b\r\x07\u202e")


def test_a_document_written_past_heimdex_does_not_hide_the_others(
    here: Heimdex, create: Create, application: Application
) -> None:
    broken, sound = create(), create(payload={"a": 1})
    path = application.settings.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE job SET payload = '{broken' WHERE id = ?", (broken.hex,))

    jobs = {job["id"]: job["payload"] for job in json.loads(here("job", "list", "--json").out)["jobs"]}

    assert jobs == {str(broken): "{broken", str(sound): {"a": 1}}


def test_an_id_is_never_broken_in_a_narrow_terminal(
    here: Heimdex, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    job_id = create("a.type.with.a.name.that.takes.all.the.room.of.a.terminal.and.more")

    lines = here("job", "list").out.splitlines()

    assert str(job_id) in lines[1]
    assert max(map(len, lines)) <= 80
