"""What is said of a run while it goes on: progress and notes by its holder, notes by anybody."""

from datetime import timedelta

import pytest

from heimdex.domain.errors import IllegalTransition, InvalidPayload, JobNotFound
from heimdex.domain.outcomes import Progress, Succeed
from heimdex.domain.results import Note, Report
from heimdex.domain.transitions import Status
from tests.contract.steps import (
    NOBODY,
    OURS,
    SYSTEM,
    columns,
    create,
    finish,
    history,
    hold_of,
    running,
    stored,
)
from tests.stores import START, StoreHarness


def test_a_report_writes_progress_and_one_event(store: StoreHarness) -> None:
    held = running(store)
    store.advance(timedelta(seconds=1))
    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.report([Report(hold_of(held), Progress("reading", 40))])

    job = stored(store, held)
    assert (job.stage, job.progress, job.version, job.status) == ("reading", 40, 3, Status.RUNNING)
    assert (job.lease_seq, job.lease_until) == (held.lease_seq, held.lease_until)
    assert [columns(one) for one in written.jobs] == [columns(job)]
    event = history(store, held)[-1]
    assert (event.trigger, event.ts, event.detail) == (
        "progress",
        START + timedelta(seconds=1),
        {"stage": "reading", "progress": 40},
    )


def test_progress_may_go_back_and_have_no_stage(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.report([Report(hold_of(held), Progress("reading", 40)), Report(hold_of(held), Progress(None, 0))])

    assert (stored(store, held).stage, stored(store, held).progress) == (None, 0)


def test_several_reports_of_one_run_are_kept_in_their_order(store: StoreHarness) -> None:
    one, other = running(store), running(store)
    reports = [
        Report(hold_of(other), Note('{"n":1}')),
        Report(hold_of(one), Progress("a", 1)),
        Report(hold_of(other), Progress("b", 2)),
        Report(hold_of(other), Note('{"n":2}')),
    ]
    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.report(reports)

    assert [(job.id, job.version) for job in written.jobs] == [(one.id, 3), (other.id, 5)]
    assert [event.trigger for event in history(store, other)[2:]] == ["log", "progress", "log"]
    assert [event.seq for event in history(store, other)] == [1, 2, 3, 4, 5]


def test_a_note_changes_no_column_whatever_it_says(store: StoreHarness) -> None:
    held = running(store)
    store.advance(timedelta(seconds=1))
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.report([Report(hold_of(held), Note('{"attempt":99,"status":"queued"}'))])
        uow.jobs.log(held.id, {"progress": 77, "lease_until": "never"})

    expected = columns(held) | {"version": 4, "updated_at": START + timedelta(seconds=1)}
    assert columns(stored(store, held)) == expected
    assert [event.detail for event in history(store, held)[2:]] == [
        {"attempt": 99, "status": "queued"},
        {"progress": 77, "lease_until": "never"},
    ]


def test_anybody_of_the_organisation_may_log(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.log(held.id, {"checkpoint": "initialized"})

    assert columns(job) == columns(stored(store, held))
    event = history(store, held)[-1]
    assert (event.trigger, event.actor, event.source) == ("log", OURS.actor, OURS.source)
    assert (event.prev_status, event.next_status) == (Status.RUNNING, Status.RUNNING)


def test_only_a_running_job_can_be_logged_to(store: StoreHarness) -> None:
    waiting, ended = create(store), running(store)
    finish(store, ended, Succeed())

    with store.unit_of_work(OURS) as uow:
        with pytest.raises(IllegalTransition, match="is queued: log is not possible; possible: claim, cancel"):
            uow.jobs.log(waiting.id, {})
        with pytest.raises(IllegalTransition, match="is succeeded: log is not possible; possible: nothing"):
            uow.jobs.log(ended.id, {})

    assert (len(history(store, waiting)), len(history(store, ended))) == (1, 3)


def test_an_unknown_job_cannot_be_logged_to(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow, pytest.raises(JobNotFound):
        uow.jobs.log(NOBODY, {})


def test_a_detail_outside_the_subset_is_refused_and_nothing_is_written(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow, pytest.raises(InvalidPayload, match=r"detail: at \$\.a"):
        uow.jobs.log(held.id, {"a": float("nan")})

    assert columns(stored(store, held)) == columns(held)


def test_details_keep_their_canonical_text(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow:
        uow.jobs.log(held.id, {"b": 1e16, "a": "é\U0001f600"})

    assert history(store, held)[-1].detail_json == '{"a":"é\U0001f600","b":1e+16}'
