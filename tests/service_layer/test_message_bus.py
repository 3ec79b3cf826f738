"""The bus: every command has a handler, and what a command draws is drawn before its first try."""

from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.bootstrap import bound_handlers
from heimdex.domain import commands
from heimdex.domain.commands import ClaimingCommand, Command, CreateJobs, DraftedCommand, ExpireLeases
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    DatabaseError,
    DatabaseUnavailable,
    SchemaMissing,
    TransientDatabaseError,
)
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.results import Created
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.retry import RetryPolicy, RetryTransient, once
from tests.service_layer.worker_harness import SYSTEM, TENANT, HandLedger, registry
from tests.stores import SequentialIds


def test_every_command_has_a_handler_and_no_handler_has_no_command() -> None:
    ledger = HandLedger(registry())
    known = {kind for kind in vars(commands).values() if isinstance(kind, type) and issubclass(kind, Command)}

    assert set(bound_handlers(ledger.store.unit_of_work)) == known - {Command, DraftedCommand, ClaimingCommand}


def test_a_command_goes_to_its_handler_and_its_answer_comes_back() -> None:
    seen: list[ExpireLeases] = []

    def expire(command: ExpireLeases) -> list[Job]:
        seen.append(command)
        return []

    bus = MessageBus({ExpireLeases: expire}, ids=SequentialIds(), retry=once)
    command = ExpireLeases(scope=SYSTEM, limit=21)

    assert bus.handle(command) == []
    assert seen == [command]


def test_ids_are_the_same_in_every_try() -> None:
    seen: list[list[UUID | None]] = []

    def create(command: CreateJobs) -> list[Created]:
        seen.append([new.id for new in command.new_jobs])
        if len(seen) < 3:
            raise TransientDatabaseError("deadlock")
        return []

    waits: list[timedelta] = []
    retry = RetryTransient(RetryPolicy(), sleep=waits.append, random=lambda: 0.0)
    bus = MessageBus({CreateJobs: create}, ids=SequentialIds(), retry=retry)
    own = UUID("018f3c6e-0000-7000-8000-000000000077")
    bus.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("a"), NewJob("b", id=own)]))

    assert seen[0][0] is not None
    assert seen == [[seen[0][0], own]] * 3


def test_the_last_error_comes_back_to_the_caller() -> None:
    def expire(command: ExpireLeases) -> None:
        raise TransientDatabaseError("deadlock")

    bus = MessageBus({ExpireLeases: expire}, ids=SequentialIds(), retry=once)

    with pytest.raises(TransientDatabaseError, match="deadlock"):
        bus.handle(ExpireLeases(scope=SYSTEM, limit=1))


@pytest.mark.parametrize(
    "last", [TransientDatabaseError("deadlock"), DatabaseUnavailable("full"), SchemaMissing("dropped")], ids=repr
)
def test_a_command_of_which_an_earlier_try_may_be_committed_is_not_said_to_be_undone(last: DatabaseError) -> None:
    def create(command: CreateJobs) -> list[Created]:
        if command.draft.unknown:
            raise last
        command.draft.unknown = True
        raise TransientDatabaseError("the connection was lost, and what was written is not there")

    retry = RetryTransient(RetryPolicy(), sleep=lambda _: None, random=lambda: 0.0)
    bus = MessageBus({CreateJobs: create}, ids=SequentialIds(), retry=retry)

    with pytest.raises(CommitOutcomeUnknown, match="may have been committed") as caught:
        bus.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("a")]))
    assert caught.value.__cause__ is last
