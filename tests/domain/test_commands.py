"""What is drawn before the first try."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.commands import (
    ClaimJobs,
    Command,
    CreateChildren,
    CreateJobs,
    ExpireLeases,
    FinishJobs,
    MarkWorkerGone,
    MarkWorkerSeen,
    RenewLeases,
    ReportJobs,
)
from heimdex.domain.new_job import NewJob
from tests.domain.life import LEASE, SCOPE, WORKER, running

GIVEN = UUID("018f3c6e-0000-7000-8000-000000000099")


def drawn(number: int) -> UUID:
    return UUID(f"018f3c6e-0000-7000-8000-{number:012}")


def drawing() -> Callable[[], UUID]:
    ids: Iterator[UUID] = map(drawn, range(1, 10))
    return lambda: next(ids)


def test_an_id_is_drawn_for_every_new_job_that_has_none() -> None:
    new_jobs = [NewJob("a", {"n": 1}, idempotency_key="k"), NewJob("b", id=GIVEN), NewJob("c", priority=3)]
    command = CreateJobs(scope=SCOPE, new_jobs=new_jobs, parent_id=GIVEN)

    settled = command.settled(drawing())

    assert settled == CreateJobs(
        scope=SCOPE,
        new_jobs=(
            NewJob("a", {"n": 1}, idempotency_key="k", id=drawn(1)),
            NewJob("b", id=GIVEN),
            NewJob("c", priority=3, id=drawn(2)),
        ),
        parent_id=GIVEN,
    )
    assert [new.id for new in new_jobs] == [None, GIVEN, None]


def test_an_id_is_drawn_for_every_child_that_has_none() -> None:
    command = CreateChildren(
        scope=SCOPE, parent=running().job, new_jobs=[NewJob("a", id=GIVEN), NewJob("b")], lease=LEASE
    )

    settled = command.settled(drawing())

    assert [new.id for new in settled.new_jobs] == [GIVEN, drawn(1)]
    assert (settled.scope, settled.parent, settled.lease) == (command.scope, command.parent, LEASE)


@pytest.mark.parametrize("type_", [CreateJobs, CreateChildren])
def test_a_settled_command_stays_as_it_is(type_: type[CreateJobs | CreateChildren]) -> None:
    if type_ is CreateJobs:
        command: CreateJobs | CreateChildren = CreateJobs(scope=SCOPE, new_jobs=[NewJob("a")])
    else:
        command = CreateChildren(scope=SCOPE, parent=running().job, new_jobs=[NewJob("a")], lease=LEASE)
    settled = command.settled(drawing())
    assert settled.settled(drawing()) == settled


@pytest.mark.parametrize(
    "command",
    [
        ClaimJobs(scope=SCOPE, worker=WORKER, types=frozenset({"a"}), lease=LEASE, limit=1),
        FinishJobs(scope=SCOPE, endings=[]),
        ReportJobs(scope=SCOPE, reports=[]),
        RenewLeases(scope=SCOPE, holds=[], lease=timedelta(seconds=1)),
        ExpireLeases(scope=SCOPE, limit=1),
        MarkWorkerSeen(scope=SCOPE, worker=WORKER, name="w", types=frozenset(), queues=frozenset()),
        MarkWorkerGone(scope=SCOPE, worker=WORKER),
    ],
    ids=lambda command: type(command).__name__,
)
def test_any_other_command_is_settled_as_it_is(command: Command[object]) -> None:
    def draw() -> UUID:
        raise AssertionError("nothing is drawn")

    assert command.settled(draw) is command
