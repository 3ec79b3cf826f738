"""What a job function may do through its context, and what is kept of it until the finish."""

import logging
from collections.abc import Callable, Iterator, Sequence

import pytest
from attrs import evolve

from heimdex.domain.errors import InvalidInput, InvalidPayload, LeaseLost, UniqueViolation, UnknownJobType
from heimdex.domain.job import Job
from heimdex.domain.json_text import JsonValue
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Cancel, Fail, Progress, Succeed
from heimdex.domain.results import Created, Effects, Note
from heimdex.service_layer.job_context import MAX_ASSETS, MAX_CHILDREN, MAX_NOTES, CreatedCounts, JobContext
from heimdex.service_layer.run import Run
from tests.service_layer.worker_harness import ORG, TENANT, HandLedger, nothing, registry

SHA = "0" * 64


class Children:
    """Answers for the store: a key that ends in 0 had made its job before."""

    def __init__(self, job: Job) -> None:
        self.batches: list[Sequence[NewJob]] = []
        self._job = job

    def create(self, new_jobs: Sequence[NewJob]) -> list[Created]:
        self.batches.append(new_jobs)
        return [Created(self._job, replayed=str(new.idempotency_key).endswith("0")) for new in new_jobs]


@pytest.fixture
def ledger() -> HandLedger:
    return HandLedger(registry(nothing=nothing))


@pytest.fixture
def run(ledger: HandLedger) -> Run:
    with ledger.store.unit_of_work(TENANT) as uow:
        uow.jobs.create("nothing", {"a": 1})
    with ledger.store.unit_of_work(TENANT) as uow:
        [job] = uow.jobs.queued()
    ledger.claim_elsewhere(job.id)
    return Run.of(ledger.job(job.id), lease_ends=30.0)


@pytest.fixture
def children(run: Run) -> Children:
    return Children(run.job)


@pytest.fixture
def ctx(ledger: HandLedger, run: Run, children: Children) -> JobContext:
    return JobContext(run, children.create, ledger.jobs.checked)


def test_the_job_of_a_context_is_a_copy(run: Run, ctx: JobContext) -> None:
    ctx.job.progress = 77

    assert ctx.job.progress == run.job.progress == 0
    assert (ctx.job.id, ctx.org_id) == (run.job.id, ORG)


def test_a_run_is_made_of_a_job_as_its_claim_returned_it(run: Run) -> None:
    with pytest.raises(InvalidInput, match="give a job as its claim returned it"):
        Run.of(evolve(run.job, lease_seq=None), lease_ends=30.0)


def test_a_context_logs_with_the_job_beside_each_line(ctx: JobContext, caplog: pytest.LogCaptureFixture) -> None:
    ctx.logger.warning("half way")

    [record] = caplog.records
    assert record.name == "heimdex.job.nothing"
    assert isinstance(ctx.logger, logging.LoggerAdapter)
    assert ctx.logger.extra == {"job_id": str(ctx.job.id), "org_id": str(ORG), "attempt": 1}


def test_only_the_last_progress_is_kept(run: Run, ctx: JobContext) -> None:
    for percent in (1, 2, 3):
        ctx.progress(percent, stage="walking")

    assert run.unwritten_progress() == Progress("walking", 3)
    assert run.unwritten_progress() is None


def test_a_progress_beyond_100_is_refused(ctx: JobContext) -> None:
    with pytest.raises(InvalidInput, match="progress"):
        ctx.progress(101)


def test_notes_are_kept_in_order_and_handed_over_once(run: Run, ctx: JobContext) -> None:
    detail: dict[str, JsonValue] = {"b": 1, "a": [1]}
    ctx.log(detail)
    detail["b"] = 2
    ctx.log(detail)

    assert [report.entry for report in run.unwritten_notes()] == [Note('{"a":[1],"b":1}'), Note('{"a":[1],"b":2}')]
    assert run.unwritten_notes() == []


def test_a_note_outside_the_json_subset_is_refused(ctx: JobContext) -> None:
    with pytest.raises(InvalidPayload, match=r"detail: at \$.a"):
        ctx.log({"a": float("nan")})


def test_notes_come_before_the_progress_of_the_same_second(run: Run, ctx: JobContext) -> None:
    ctx.progress(5)
    ctx.log({})

    assert [report.entry for report in run.unwritten_reports()] == [Note("{}"), Progress(None, 5)]


def test_an_asset_is_kept_once_for_each_uri(run: Run, ctx: JobContext) -> None:
    ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256=SHA, metadata={"width": 5})
    ctx.assets.add("file:///b", media_type="text/plain", size=1, sha256=SHA)

    with pytest.raises(UniqueViolation) as caught:
        ctx.assets.add("file:///a", media_type="image/png", size=2, sha256=SHA)
    assert caught.value.constraint_name == "uq_asset_org_job_uri"
    effects = run.ending(Succeed()).effects
    assert [(asset.uri, asset.metadata_json) for asset in effects.assets] == [
        ("file:///a", '{"width":5}'),
        ("file:///b", "{}"),
    ]


def test_children_are_kept_with_all_that_was_asked_for(run: Run, ctx: JobContext) -> None:
    ctx.create("nothing", {"n": 1}, queue="slow", priority=3, idempotency_key="k", requested_by="somebody")
    ctx.create("nothing")

    assert run.ending(Succeed()).effects.children == (
        NewJob("nothing", {"n": 1}, queue="slow", priority=3, idempotency_key="k", requested_by="somebody"),
        NewJob("nothing"),
    )


def test_a_child_that_could_not_be_created_is_refused_at_once(run: Run, ctx: JobContext) -> None:
    with pytest.raises(UnknownJobType):
        ctx.create("elsewhere")
    with pytest.raises(InvalidPayload):
        ctx.create("nothing", {"a": {1}})

    assert run.children == []


def test_a_run_keeps_at_most_a_thousand_children(run: Run, ctx: JobContext) -> None:
    run.children = [NewJob("nothing")] * (MAX_CHILDREN - 1)
    ctx.create("nothing")

    with pytest.raises(InvalidInput, match="create at most 1,000, or use create_many"):
        ctx.create("nothing")
    assert len(run.children) == 1_000


@pytest.mark.parametrize("outcome", [Fail("code", "message"), Cancel("no")], ids=str)
def test_effects_belong_to_a_success_alone(run: Run, ctx: JobContext, outcome: Fail | Cancel) -> None:
    ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256=SHA)
    ctx.create("nothing")
    ctx.progress(50)
    ending = run.ending(outcome)

    assert ending.effects == Effects()
    assert ending.progress == Progress(None, 50)


def test_one_note_more_than_may_wait_is_refused_until_some_are_written(ctx: JobContext, run: Run) -> None:
    for n in range(MAX_NOTES):
        ctx.log({"n": n})
    with pytest.raises(InvalidInput, match="log less often"):
        ctx.log({"n": MAX_NOTES})
    run.unwritten_reports()

    ctx.log({"n": MAX_NOTES})
    assert len(run.notes) == 1


def test_one_asset_more_than_a_run_may_add_is_refused(ctx: JobContext, run: Run) -> None:
    for n in range(MAX_ASSETS):
        ctx.assets.add(f"file:///{n}", media_type="text/plain", size=1, sha256=SHA)

    with pytest.raises(InvalidInput, match="let child jobs add the others"):
        ctx.assets.add("file:///more", media_type="text/plain", size=1, sha256=SHA)
    assert len(run.assets) == MAX_ASSETS


# create_many


def keyed(count: int) -> Iterator[NewJob]:
    return (NewJob("nothing", idempotency_key=f"k-{n}") for n in range(count))


def test_many_children_are_created_a_thousand_at_a_time(ctx: JobContext, children: Children) -> None:
    assert ctx.create_many(keyed(2_001)) == CreatedCounts(created=1_800, replayed=201)
    assert [len(batch) for batch in children.batches] == [1_000, 1_000, 1]


def test_no_children_are_no_transaction(ctx: JobContext, children: Children) -> None:
    assert ctx.create_many([]) == CreatedCounts(created=0, replayed=0)
    assert children.batches == []


def test_a_child_without_a_key_is_refused_with_its_whole_batch(ctx: JobContext, children: Children) -> None:
    with pytest.raises(InvalidInput, match="idempotency_key"):
        ctx.create_many([*keyed(1_000), *keyed(5), NewJob("nothing")])
    assert [len(batch) for batch in children.batches] == [1_000]


def test_the_hold_is_looked_at_before_each_batch(run: Run, ctx: JobContext, children: Children) -> None:
    def losing() -> Iterator[NewJob]:
        yield from keyed(1_500)
        run.held = False

    with pytest.raises(LeaseLost):
        ctx.create_many(losing())
    assert [len(batch) for batch in children.batches] == [1_000]


# After the hold


def test_every_call_says_so_once_the_hold_has_ended(run: Run, ctx: JobContext, children: Children) -> None:
    run.held = False
    calls: list[Callable[[], object]] = [
        ctx.check,
        lambda: ctx.progress(1),
        lambda: ctx.log({}),
        lambda: ctx.create("nothing"),
        lambda: ctx.create_many(keyed(1)),
        lambda: ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256=SHA),
    ]
    for call in calls:
        with pytest.raises(LeaseLost) as caught:
            call()
        assert (caught.value.job_id, caught.value.lease_seq) == (run.job.id, 2)

    assert (run.progress, list(run.notes), run.assets, run.children) == (None, [], {}, [])
    assert children.batches == []


def test_a_held_context_may_be_checked_at_any_time(ctx: JobContext) -> None:
    ctx.check()


def test_one_alone_gets_the_turn(run: Run) -> None:
    assert [run.take_turn() for _ in range(3)] == [True, False, False]


def test_a_run_has_no_deadline_before_it_has_started(run: Run) -> None:
    assert run.deadline is None
    run.started_at = 100.0
    assert run.deadline == 100.0 + run.job.timeout.total_seconds()
