"""`heimdex --api URL`: the same commands say the same and exit alike, over HTTP as on the database."""

import getpass
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from heimdex.domain.access import Role
from heimdex.domain.asset import NewAsset
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import System
from tests.api_server import SECRET, serving, token_of
from tests.entrypoints.conftest import ORG, Heimdex, Ran

OTHER = UUID("018f3c6e-0000-7000-8000-0000000000aa")
WORKER = UUID("018f3c6e-0000-7000-8000-0000000000bb")
MISSING = UUID("018f3c6e-0000-7000-8000-0000000000cc")
ME = getpass.getuser()

Create = Callable[..., UUID]


@pytest.fixture
def application(url: str) -> Iterator[Application]:
    with bootstrap(load({"HEIMDEX_DATABASE_URL": url, "HEIMDEX_API_SECRET": SECRET})) as app:
        yield app


@pytest.fixture
def api(application: Application) -> Iterator[str]:
    with serving(application) as url:
        yield url


@pytest.fixture
def over_http(heimdex: Heimdex, api: str, application: Application, monkeypatch: pytest.MonkeyPatch) -> Heimdex:
    """Return what runs `heimdex` over HTTP, with a token for the organisation and no database."""
    token = token_of(application, ORG, actor=ME)

    def call(*arguments: object) -> Ran:
        with monkeypatch.context() as patch:
            patch.setenv("HEIMDEX_API_TOKEN", token)
            patch.setenv("HEIMDEX_DATABASE_URL", "sqlite:////nowhere/at/all.db")
            patch.delenv("HEIMDEX_ORG", raising=False)
            return heimdex("--api", api, *arguments)

    return call


@pytest.fixture
def ended(create: Create, application: Application) -> UUID:
    """Return a job with everything that can be shown: documents, an asset, a refused write."""
    job_id = create(payload={"video": "é", "n": [1, 1e16, None]}, queue="slow", idempotency_key="k")
    with application.unit_of_work(System(actor="worker", reason="a test")) as uow:
        job = uow.jobs.claim(job_id, worker=WORKER, lease=timedelta(seconds=30))
        uow.assets.add(job, NewAsset.of("file:///a", media_type="a/b", size=1, sha256="0" * 64, metadata={"a": 1}))
        uow.jobs.log(job_id, {"a": "note"})
        uow.jobs.finish([Ending(job, Fail("boom", "no\n\x1b[31m", permanent=True, traceback="here\nthere"))])
        uow.jobs.finish([Ending(job, Succeed())])
    return job_id


QUESTIONS: dict[str, list[str]] = {
    "list": ["job", "list"],
    "list, narrowed": ["job", "list", "--type", "video.cut", "--status", "queued", "--limit", "2"],
    "list, more than a page of the API": ["job", "list", "--limit", "500"],
    "list, further": ["job", "list", "--after", "ID"],
    "show": ["job", "show", "ID"],
    "show a missing one": ["job", "show", str(MISSING)],
    "history": ["job", "history", "ID"],
    "history of a missing one": ["job", "history", str(MISSING)],
    "why": ["job", "why", "ID"],
    "why a missing one": ["job", "why", str(MISSING)],
    "stats": ["job", "stats"],
    "queues": ["queue", "list"],
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("case", QUESTIONS)
def test_a_question_is_answered_alike(
    here: Heimdex, over_http: Heimdex, create: Create, ended: UUID, case: str, form: str
) -> None:
    for number in range(205 if "more than" in case else 5):
        create(payload={"n": number})
    here("queue", "pause", "default", "--reason", "a leak")
    arguments = [argument.replace("ID", str(ended)) for argument in QUESTIONS[case]]
    arguments += ["--json"] if form == "json" else []

    there = over_http(*arguments)

    assert there == here(*arguments)
    assert there.code == (1 if "missing" in case else 0)


CHANGES: dict[str, list[str]] = {
    "create": ["job", "create", "mail.send", '{"to": "é"}', "--queue", "q", "--priority", "3", "--max-attempts", "2"],
    "create later": ["job", "create", "mail.send", "--at", "2030-01-31T08:00:00+01:00"],
    "create what is no JSON": ["job", "create", "mail.send", "{"],
    "create in no queue": ["job", "create", "mail.send", "--queue", ""],
    "replay": ["job", "create", "video.cut", "--key", "once"],
    "conflict": ["job", "create", "video.cut", "[1]", "--key", "once"],
    "cancel": ["job", "cancel", "QUEUED", "--reason", "not this one"],
    "cancel what runs": ["job", "cancel", "RUNNING", "--reason", "not this one"],
    "cancel what has ended": ["job", "cancel", "FAILED", "--reason", "not this one"],
    "cancel a missing one": ["job", "cancel", str(MISSING), "--reason", "not this one"],
    "cancel without a reason": ["job", "cancel", "QUEUED", "--reason", ""],
    "retry": ["job", "retry", "FAILED", "--reason", "this one"],
    "retry what is queued": ["job", "retry", "QUEUED", "--reason", "this one"],
    "pause": ["queue", "pause", "a/b ?", "--reason", "a leak"],
    "pause nothing": ["queue", "pause", "", "--reason", "a leak"],
    "resume": ["queue", "resume", "paused"],
    "resume what is not paused": ["queue", "resume", "a/b ?"],
}


def _prepare(create: Create, application: Application, org_id: UUID) -> dict[str, UUID]:
    failed, running = create(org_id=org_id), create(org_id=org_id)
    queued = create(org_id=org_id, idempotency_key="once", payload={})
    with application.unit_of_work(System(actor="worker", reason="a test")) as uow:
        job = uow.jobs.claim(failed, worker=WORKER, lease=timedelta(seconds=30))
        uow.jobs.finish([Ending(job, Fail("boom", "no", permanent=True))])
        uow.jobs.claim(running, worker=WORKER, lease=timedelta(seconds=30))
    return {"FAILED": failed, "RUNNING": running, "QUEUED": queued}


def _masked(text: str) -> str:
    """Return text without what differs between two jobs: ids, times, and where a change came from."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    return re.sub(r'"source": "[^"]*"', '"source": "..."', text)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("case", CHANGES)
def test_a_change_is_made_alike(
    here: Heimdex, over_http: Heimdex, create: Create, application: Application, case: str, form: str
) -> None:
    def written(run: Heimdex, org_id: UUID, *options: object) -> tuple[int, list[str]]:
        """Return what a change comes to in one organisation: what was said, and all that is there then."""
        jobs = _prepare(create, application, org_id)
        here("queue", "pause", "paused", "--reason", "a leak", "--org", org_id)
        ran = run(*[jobs.get(argument, argument) for argument in CHANGES[case]], *options)
        listed = here("job", "list", "--json", "--org", org_id).out
        after = [here("job", "history", job["id"], "--json", "--org", org_id).out for job in json.loads(listed)["jobs"]]
        after += [listed, here("queue", "list", "--json", "--org", org_id).out]
        return ran.code, list(map(_masked, [ran.out, ran.err, *after]))

    options = ["--json"] if form == "json" else []

    assert written(over_http, ORG, *options) == written(here, OTHER, *options, "--org", OTHER)


def test_the_token_is_needed(heimdex: Heimdex, api: str) -> None:
    ran = heimdex("--api", api, "job", "list")

    assert (ran.code, ran.out) == (2, "")
    assert "HEIMDEX_API_TOKEN: None is not accepted; set it to a token" in ran.err


def test_a_token_that_does_not_count_is_bad_input(heimdex: Heimdex, api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_API_TOKEN", "not.a.token")

    ran = heimdex("--api", api, "job", "list")

    assert (ran.code, ran.out) == (2, "")
    assert "no valid bearer token came with the request" in ran.err


def test_a_role_that_may_not_is_refused(
    heimdex: Heimdex, api: str, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_API_TOKEN", token_of(application, ORG, Role.VIEWER))

    ran = heimdex("--api", api, "job", "create", "mail.send")

    assert (ran.code, ran.out) == (1, "")
    assert "none of the roles in this token gives the right write_jobs" in ran.err


def test_an_organisation_that_is_not_the_tokens_is_refused(over_http: Heimdex) -> None:
    assert over_http("job", "list", "--org", ORG).code == 0
    ran = over_http("job", "list", "--org", OTHER)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"heimdex: --org: '{OTHER}' is not accepted; the token is one of organisation {ORG}\n"


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize("more", [["--yes"], ["--dry-run"]])
def test_many_cannot_be_changed_over_http(over_http: Heimdex, create: Create, verb: str, more: list[str]) -> None:
    create()

    ran = over_http("job", verb, "--all", "--reason", "all of them", *more)

    assert (ran.code, ran.out) == (2, "")
    assert "is not possible over HTTP; do it where the database is" in ran.err


@pytest.mark.parametrize("arguments", [["pause", "q", "--reason", "r"], ["resume", "q"], ["list"]])
def test_every_organisation_cannot_be_reached_over_http(over_http: Heimdex, arguments: list[str]) -> None:
    ran = over_http("queue", *arguments, "--everybody")

    assert (ran.code, ran.out) == (2, "")
    assert "what is done for every organisation is not possible over HTTP" in ran.err


def test_an_api_that_is_not_there_is_as_a_database_that_is_not(
    heimdex: Heimdex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_API_TOKEN", "a.b.c")

    ran = heimdex("--api", "http://127.0.0.1:1", "job", "list")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "heimdex: the API cannot be reached (ConnectError)\n"


def test_a_url_of_no_api_is_bad_input(heimdex: Heimdex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_API_TOKEN", "a.b.c")

    assert heimdex("--api", "localhost", "job", "list").code == 2


def test_the_environment_can_name_the_api_and_an_option_goes_before_it(
    heimdex: Heimdex, api: str, application: Application, monkeypatch: pytest.MonkeyPatch, url: str, create: Create
) -> None:
    create()
    monkeypatch.setenv("HEIMDEX_API_URL", api)
    monkeypatch.setenv("HEIMDEX_API_TOKEN", token_of(application, ORG))
    monkeypatch.setenv("HEIMDEX_DATABASE_URL", "sqlite:////nowhere/at/all.db")

    assert "video.cut" in heimdex("job", "list").out
    assert "video.cut" in heimdex("job", "list", "--database-url", url, "--org", ORG).out
    assert heimdex("job", "list", "--database-url", "sqlite:////nowhere/else.db", "--org", ORG).code == 3


def test_one_ledger_is_asked_for_at_a_time(over_http: Heimdex, url: str) -> None:
    ran = over_http("job", "list", "--database-url", url)

    assert (ran.code, ran.out) == (2, "")
    assert "give --api or --database-url, and one of these alone." in ran.err


@pytest.mark.parametrize("arguments", [["prune", "--yes"], ["worker"], ["db", "upgrade"], ["config"]])
def test_a_command_that_has_no_api_refuses_one(over_http: Heimdex, arguments: list[str]) -> None:
    ran = over_http(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert "--api goes with `job` and `queue`" in ran.err
