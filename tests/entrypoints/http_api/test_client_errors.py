"""What fails behind the API fails in the client with the same class and the same text."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import attrs
import httpx
import pytest

from heimdex.adapters.http_client import HttpClient
from heimdex.adapters.http_problems import error_of
from heimdex.bootstrap import Application, bootstrap, connect, connect_ledger
from heimdex.config import load
from heimdex.domain import errors
from heimdex.domain.access import Role
from heimdex.domain.commands import CancelJob, CancelJobs, CreateJobs, PauseQueue, ResumeQueue, RetryJob
from heimdex.domain.errors import (
    CapabilityMissing,
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    HeimdexError,
    InvalidInput,
    InvalidPayload,
    JobNotFound,
    LimitReached,
    NotAuthenticated,
    NotPermitted,
)
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.entrypoints.cli.opening import Ledger
from heimdex.entrypoints.http_api.problems import problem
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.ports import Views
from tests.api_server import SECRET, USER, serving, token_of
from tests.entrypoints.test_errors import EXPECTED

ORG = UUID(int=1)
OURS = Tenant(ORG, actor=USER)
NOBODY = UUID("018f3c6e-0000-7000-8000-0000000000ff")
TYPE = "mail.send"
LONG = "x" * 300
NO_DATABASE = "the ledger cannot be reached or is busy; try again"
JOBS = JobRegistry()


@attrs.frozen
class Mail:
    to: str


@JOBS.register(TYPE)
def _send(payload: Mail, ctx: JobContext) -> None: ...


def _back(error: HeimdexError) -> HeimdexError:
    """Return what a client makes of the API's answer to a request that failed."""
    answer = problem(error)
    return error_of(
        httpx.Response(
            answer.status_code,
            headers=dict(answer.headers),
            content=bytes(answer.body),
            request=httpx.Request("POST", "http://localhost/v1/jobs"),
        )
    )


OF_THE_CALLER = [
    errors.InvalidInput("limit", 0, "give more"),
    errors.InvalidInput("queue", LONG, "give less"),
    errors.InvalidInput("queue", None, "give some"),
    errors.InvalidPayload("payload", "$.a", "NaN"),
    errors.UnknownJobType("a.b", ("c.d", "e")),
    errors.UnknownJobType(LONG, ()),
    errors.JobNotFound(NOBODY),
    errors.IllegalTransition(NOBODY, "queued", "finish", ("claim", "cancel")),
    errors.IdempotencyConflict(LONG, NOBODY, "a", "b"),
    errors.CapabilityMissing("not here"),
    errors.DataRejected("the database refused it"),
    errors.NotAuthenticated(),
    errors.NotPermitted("write_jobs"),
    errors.LimitReached("100 requests a second", 0.01),
    errors.LimitReached("100 requests a second", 7.2),
]


@pytest.mark.parametrize(
    "error", OF_THE_CALLER, ids=[f"{number} {type(error).__name__}" for number, error in enumerate(OF_THE_CALLER)]
)
def test_an_error_of_the_caller_comes_back_with_its_class_and_its_text(error: HeimdexError) -> None:
    back = _back(error)

    assert (type(back), str(back)) == (type(error), str(error))


@pytest.mark.parametrize("error", EXPECTED, ids=lambda error: type(error).__name__)
def test_whatever_fails_there_is_an_error_of_heimdex_here(error: HeimdexError) -> None:
    back = _back(error)

    if problem(error).status_code == 500:
        assert type(back) is HeimdexError
        assert "an error of Heimdex" in str(back)
    elif isinstance(error, CommitOutcomeUnknown):
        assert type(back) is CommitOutcomeUnknown
    elif problem(error).status_code == 503:
        assert type(back) is DatabaseUnavailable
        assert "try again" in str(back)
    else:
        assert str(error) in str(back)


@pytest.fixture
def application() -> Iterator[Application]:
    with bootstrap(load({"HEIMDEX_DATABASE_URL": "memory://", "HEIMDEX_API_SECRET": SECRET}), jobs=JOBS) as app:
        yield app


@pytest.fixture
def api(application: Application) -> Iterator[str]:
    with serving(application) as url:
        yield url


def _create(ledger: Ledger, payload: object, **options: str) -> object:
    return ledger.handle(CreateJobs(scope=OURS, new_jobs=[NewJob(TYPE, payload, **options)]))  # type: ignore[arg-type]  # texts, all of them


def _twice(ledger: Ledger) -> None:
    for to in ("a", "b"):
        _create(ledger, {"to": to}, idempotency_key="once")


def _ask(question: Callable[[Views], object]) -> Callable[[Ledger], object]:
    def ask(ledger: Ledger) -> object:
        with ledger.views(OURS) as views:
            return question(views)

    return ask


FAILING: dict[str, Callable[[Ledger], object]] = {
    "cancel what is not there": lambda it: it.handle(CancelJob(scope=OURS, job_id=NOBODY, reason="r")),
    "retry what is not there": lambda it: it.handle(RetryJob(scope=OURS, job_id=NOBODY, reason="r")),
    "why of what is not there": _ask(lambda views: views.explain_waiting(NOBODY)),
    "no such type": lambda it: it.handle(CreateJobs(scope=OURS, new_jobs=[NewJob("mail.sned")])),
    "a payload of another class": lambda it: _create(it, {"from": "a"}),
    "a payload that is no JSON": lambda it: _create(it, {"to": float("nan")}),
    "a key of another job": _twice,
    "no such parent": lambda it: it.handle(
        CreateJobs(scope=OURS, new_jobs=[NewJob(TYPE, {"to": "a"})], parent_id=NOBODY)
    ),
    "no reason": lambda it: it.handle(PauseQueue(scope=OURS, queue="q", reason="")),
    "no queue": lambda it: it.handle(PauseQueue(scope=OURS, queue="", reason="r")),
    "a queue that is not printable": lambda it: it.handle(ResumeQueue(scope=OURS, queue="a\n")),
    "a reason with a lone surrogate": lambda it: it.handle(PauseQueue(scope=OURS, queue="q", reason="\ud800")),
}


@pytest.mark.parametrize("case", FAILING)
def test_what_fails_on_the_ledger_fails_alike_over_http(application: Application, api: str, case: str) -> None:
    with pytest.raises(HeimdexError) as there:
        FAILING[case](application)
    with connect_ledger(api, token_of(application, ORG)) as ledger, pytest.raises(HeimdexError) as here:
        FAILING[case](ledger)  # type: ignore[arg-type]  # no settings are asked for

    # The job that has the key is another one each time.
    assert type(here.value) is type(there.value)
    assert str(here.value) == str(there.value) or case == "a key of another job"


@pytest.mark.parametrize("case", ["find", "history", "assets", "refusals"])
def test_what_is_not_there_is_nothing_over_http_as_on_the_ledger(application: Application, api: str, case: str) -> None:
    ask: dict[str, Callable[[Views], object]] = {
        "find": lambda views: views.find(NOBODY),
        "history": lambda views: views.history(NOBODY),
        "assets": lambda views: views.assets([NOBODY]),
        "refusals": lambda views: views.refusals(NOBODY),
    }
    with (
        connect_ledger(api, token_of(application, ORG)) as ledger,
        ledger.views(OURS) as here,
        application.views(OURS) as there,
    ):
        assert ask[case](here) == ask[case](there)


ASKED: dict[str, Callable[[HttpClient], object]] = {
    "get": lambda client: client.get(NOBODY),
    "history": lambda client: client.history(NOBODY),
    "refusals": lambda client: client.refusals(NOBODY),
    "assets": lambda client: client.assets(NOBODY),
    "why": lambda client: client.why(NOBODY),
    "cancel": lambda client: client.cancel(NOBODY, "r"),
    "retry": lambda client: client.retry(NOBODY, "r"),
    "watch": lambda client: next(client.watch(NOBODY)),
}


@pytest.mark.parametrize("case", ASKED)
def test_a_job_that_is_not_there_is_not_found(application: Application, api: str, case: str) -> None:
    with connect(api, token_of(application, ORG)) as client, pytest.raises(JobNotFound) as raised:
        ASKED[case](client)

    assert raised.value.job_id == NOBODY


def test_a_job_cannot_be_watched_from_an_event_that_it_does_not_have(application: Application, api: str) -> None:
    with connect(api, token_of(application, ORG)) as client:
        job = client.create(NewJob(TYPE, {"to": "a"})).job
        with pytest.raises(InvalidInput, match="Last-Event-ID: 9 is not accepted"):
            list(client.watch(job.id, after=9))


@pytest.mark.parametrize("token", [None, "not.a.token"])
def test_without_a_token_that_counts_nothing_is_answered(api: str, token: str | None) -> None:
    with connect(api, token) as client, pytest.raises(NotAuthenticated):
        client.statistics()


def test_a_right_that_the_token_does_not_give_is_named(application: Application, api: str) -> None:
    with (
        connect(api, token_of(application, ORG, Role.VIEWER)) as client,
        pytest.raises(NotPermitted, match="gives the right write_jobs"),
    ):
        client.create(NewJob(TYPE))


def test_a_limit_says_when_to_come_back() -> None:
    settings = load(
        {"HEIMDEX_DATABASE_URL": "memory://", "HEIMDEX_API_SECRET": SECRET, "HEIMDEX_API_REQUESTS_PER_SECOND": "1"}
    )
    with (
        bootstrap(settings) as app,
        serving(app) as api,
        connect(api, token_of(app, ORG)) as client,
        pytest.raises(LimitReached, match="try again in 1 s") as raised,
    ):
        _ = [client.statistics() for _ in range(100)]

    assert raised.value.retry_in == 1


def test_what_the_form_of_a_request_refuses_names_its_field(application: Application, api: str) -> None:
    with connect(api, token_of(application, ORG)) as client:
        with pytest.raises(InvalidInput, match=r"^limit: the value is not accepted; .* 200"):
            client.page(JobFilter(), limit=201)
        with pytest.raises(InvalidInput, match=r"^jobs: the value is not accepted; "):
            client.create_many([])
        with pytest.raises(InvalidInput, match=r"^request: .* give text that has a UTF-8 form"):
            client.page(JobFilter(type="\ud800"))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (NewJob(TYPE, requested_by="me"), "^requested_by: 'me' is not accepted; leave it out"),
        (NewJob(TYPE, id=NOBODY), "^id: .* leave it out"),
        (NewJob(TYPE, limits=JobLimits(timeout=timedelta(seconds=1))), "^limits: .* give max_attempts alone"),
    ],
)
def test_what_cannot_be_said_over_http_is_refused_before_anything_is_sent(new: NewJob, said: str) -> None:
    with connect("http://127.0.0.1:1", "t") as client:
        with pytest.raises(InvalidInput, match=said):
            client.create(new)
        with pytest.raises(InvalidInput, match=said):
            client.create_many([new])


def test_a_payload_that_is_no_json_is_refused_before_anything_is_sent() -> None:
    with connect("http://127.0.0.1:1", "t") as client, pytest.raises(InvalidPayload, match="a Mail is not JSON"):
        client.create(NewJob(TYPE, Mail("a")))


EVERYBODY = System(actor="me", reason="every organisation")
MISSING: dict[str, Callable[[Ledger], object]] = {
    "CancelJobs": lambda it: it.handle(CancelJobs(scope=OURS, which=JobFilter(), reason="r")),
    "every organisation": lambda it: it.handle(PauseQueue(scope=EVERYBODY, queue="q", reason="r")),
    "counting jobs": _ask(lambda views: views.count(JobFilter())),
    "many histories": _ask(lambda views: views.events_after({})),
    "listing histories": _ask(lambda views: views.history_ids()),
    "the whole ledger": _ask(lambda views: list(views.ledger())),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_there_is_no_route_for_says_so(what: str) -> None:
    with (
        connect_ledger("http://127.0.0.1:1", "t") as ledger,
        pytest.raises(CapabilityMissing, match=f"{what}.* is not possible over HTTP; do it where the database is"),
    ):
        MISSING[what](ledger)  # type: ignore[arg-type]  # as above


def test_nobody_may_look_for_every_organisation() -> None:
    with (
        connect_ledger("http://127.0.0.1:1", "t") as ledger,
        pytest.raises(CapabilityMissing, match="every organisation"),
        ledger.views(EVERYBODY),
    ):
        pass
