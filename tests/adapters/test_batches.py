"""Very many jobs: batches that are committed one by one, side by side where the store can."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.commands import EraseOrg
from heimdex.domain.errors import (
    HeimdexError,
    IdempotencyConflict,
    InvalidInput,
    InvalidPayload,
    NestedUnitOfWork,
    UniqueViolation,
)
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.results import CreatedBatch
from tests.contract.steps import ORG, OURS, SYSTEM, TYPE

MANY = 25
SIZE = 4


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    match request.param:
        case "memory":
            url = "memory://"
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'heimdex.db'}"
        case _:
            url = request.getfixturevalue("bare_postgres_url")
    with bootstrap(Settings(database_url=url)) as app:
        app.schema.upgrade()
        yield app
        # The database serves every test of this module.
        app.handle(EraseOrg(scope=SYSTEM, org_id=ORG, reason="the test is over"))


def wanted(count: int = MANY) -> Iterator[NewJob]:
    return (NewJob(TYPE, {"n": n}, idempotency_key=f"k-{n}") for n in range(count))


def kept(app: Application) -> set[object]:
    with app.views(OURS) as views:
        return {job.payload["n"] for job in views.page(JobFilter()).jobs if isinstance(job.payload, dict)}


def numbers(batches: list[CreatedBatch]) -> list[object]:
    return [one.job.payload["n"] for batch in batches for one in batch.jobs if isinstance(one.job.payload, dict)]


def until_it_fails(app: Application, new_jobs: Iterator[NewJob]) -> tuple[list[CreatedBatch], Exception]:
    batches: list[CreatedBatch] = []
    with pytest.raises(Exception, match=r".*") as caught:
        batches.extend(app.create_in_batches(OURS, new_jobs, size=SIZE))
    return batches, caught.value


def test_all_jobs_are_created_in_batches_that_come_in_the_order_given(app: Application) -> None:
    batches = list(app.create_in_batches(OURS, wanted(), size=SIZE))

    assert [batch.first for batch in batches] == list(range(0, MANY, SIZE))
    assert [len(batch.jobs) for batch in batches] == [4, 4, 4, 4, 4, 4, 1]
    assert numbers(batches) == list(range(MANY))
    assert kept(app) == set(range(MANY))


def test_none_are_created_of_nothing(app: Application) -> None:
    assert list(app.create_in_batches(OURS, [])) == []


def test_a_batch_is_committed_when_it_is_yielded(app: Application) -> None:
    for batch in app.create_in_batches(OURS, wanted(), size=SIZE):
        with app.views(OURS) as views:
            assert all(views.find(one.job.id) is not None for one in batch.jobs)


def test_the_same_call_again_replays_what_is_there_and_creates_the_rest(app: Application) -> None:
    list(app.create_in_batches(OURS, wanted(10), size=SIZE))

    again = [one for batch in app.create_in_batches(OURS, wanted(), size=SIZE) for one in batch.jobs]

    assert [one.replayed for one in again] == [True] * 10 + [False] * (MANY - 10)
    assert kept(app) == set(range(MANY))


def test_new_jobs_are_asked_for_only_as_answers_are_taken(app: Application) -> None:
    asked: list[int] = []

    def counted() -> Iterator[NewJob]:
        for n, new in enumerate(wanted(100)):
            asked.append(n)
            yield new

    answers = app.create_in_batches(OURS, counted(), size=SIZE)
    for taken in range(1, 6):
        next(answers)
        assert len(asked) <= (taken + 3) * SIZE


def test_an_error_comes_after_what_is_committed_and_says_where(app: Application) -> None:
    def one_is_wrong() -> Iterator[NewJob]:
        for n in range(MANY):
            yield NewJob(TYPE, {"n": n if n != 9 else float("nan")})

    batches, error = until_it_fails(app, one_is_wrong())

    assert isinstance(error, InvalidPayload)
    assert error.__notes__ == ["job 1 of those given, counted from 0", "in the batch of jobs 8 to 11, counted from 0"]
    assert set(numbers(batches)) == kept(app)
    assert {0, 1, 2, 3, 4, 5, 6, 7} <= kept(app)
    assert not {8, 9, 10, 11, 20, 24} & kept(app)


@pytest.mark.parametrize("error", [ValueError("a bad line"), InvalidInput("line", "x", "give another")])
def test_an_error_of_the_callers_own_comes_after_what_is_committed(app: Application, error: Exception) -> None:
    def broken() -> Iterator[NewJob]:
        yield from wanted(10)
        raise error

    batches, caught = until_it_fails(app, broken())

    assert caught is error
    assert numbers(batches) == list(range(8))
    assert kept(app) == set(range(8))


def test_a_key_of_another_job_fails_its_batch_as_a_whole(app: Application) -> None:
    list(app.create_in_batches(OURS, [NewJob(TYPE, {"n": -1}, idempotency_key="k-6")]))

    batches, error = until_it_fails(app, wanted())

    assert isinstance(error, IdempotencyConflict)
    assert error.idempotency_key == "k-6"
    assert kept(app) == {-1, *numbers(batches)}
    assert not {4, 5, 6, 7} & kept(app)


def test_an_id_that_is_taken_fails_its_batch_as_a_whole(app: Application) -> None:
    [batch] = app.create_in_batches(OURS, [NewJob(TYPE, {"n": -1})])
    taken = batch.jobs[0].job.id

    def again() -> Iterator[NewJob]:
        yield NewJob(TYPE, {"n": 0})
        yield NewJob(TYPE, {"n": 1}, idempotency_key="other", id=taken)

    batches, error = until_it_fails(app, again())

    assert isinstance(error, UniqueViolation)
    assert batches == []
    assert kept(app) == {-1}


def test_whoever_stops_taking_answers_leaves_whole_batches(app: Application) -> None:
    answers = app.create_in_batches(OURS, wanted(), size=SIZE)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator, as the signature does not promise

    assert len(kept(app)) % SIZE == 0
    assert {0, 1, 2, 3} <= kept(app)


def test_it_is_refused_inside_a_unit_of_work(app: Application) -> None:
    with app.unit_of_work(OURS), pytest.raises(NestedUnitOfWork):
        app.create_in_batches(OURS, wanted())


@pytest.mark.parametrize("size", [0, 10_001, True])
def test_a_size_that_makes_no_batch_is_refused(app: Application, size: int) -> None:
    with pytest.raises(InvalidInput, match="size"):
        app.create_in_batches(OURS, wanted(), size=size)


def test_the_system_names_the_organisation(app: Application) -> None:
    with pytest.raises(HeimdexError, match="org_id"):
        list(app.create_in_batches(SYSTEM, wanted()))
    list(app.create_in_batches(SYSTEM, wanted(), org_id=ORG))
    assert kept(app) == set(range(MANY))
