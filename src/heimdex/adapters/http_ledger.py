"""A ledger that is reached over HTTP: it takes the commands and answers the questions that the API has routes for."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Self, TypeVar, cast
from uuid import UUID

from heimdex.adapters.http_client import HttpClient
from heimdex.domain.asset import Asset
from heimdex.domain.commands import CancelJob, Command, CreateJobs, PauseQueue, ResumeQueue, RetryJob
from heimdex.domain.errors import CapabilityMissing, JobNotFound
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.operations import Erasure, QueueCounts
from heimdex.domain.scope import Scope, System
from heimdex.domain.transitions import Status
from heimdex.domain.waiting import Blocker
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports import MAX_LISTED, Page, Recorded, Statistics, Views

Answer = TypeVar("Answer")

_PAGE = 200


class HttpLedger:
    """One organisation's part of a ledger. Whose it is, and who acts, the token says; a scope's are not sent.

    Raises:
        CapabilityMissing: from every method, for what there is no route for.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def handle(self, command: Command[Answer]) -> Answer:
        _check_tenant(command.scope)
        return cast("Answer", self._done(command))

    def _done(self, command: Command[object]) -> object:
        client = self._client
        match command:
            case CreateJobs(new_jobs=[new], parent_id=parent_id):
                return [client.create(new, parent_id=parent_id)]
            case CreateJobs(new_jobs=new_jobs, parent_id=parent_id):
                return client.create_many(new_jobs, parent_id=parent_id)
            case CancelJob(job_id=job_id, reason=reason):
                return client.cancel(job_id, reason)
            case RetryJob(job_id=job_id, reason=reason):
                return client.retry(job_id, reason)
            case PauseQueue(queue=queue, reason=reason):
                client.pause(queue, reason)
                return None
            case ResumeQueue(queue=queue):
                return client.resume(queue)
            case _:
                raise _missing(type(command).__name__)

    @contextmanager
    def views(self, scope: Scope) -> Iterator[Views]:
        _check_tenant(scope)
        yield HttpViews(self._client)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HttpViews(Views):
    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def statistics(self) -> Statistics:
        return self._client.statistics()

    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        jobs: tuple[Job, ...] = ()
        while True:
            page = self._client.page(which, after=after, limit=min(_PAGE, limit - len(jobs)))
            jobs, after = jobs + page.jobs, page.next_after
            if after is None or len(jobs) == limit:
                return Page(jobs, after)

    def count(self, which: JobFilter, statuses: Collection[Status] = tuple(Status)) -> int:
        raise _missing("counting jobs before many are changed")

    def queues(self) -> tuple[QueueCounts, ...]:
        return self._client.queues()

    def explain_waiting(self, job_id: UUID) -> tuple[Blocker, ...]:
        return self._client.why(job_id)

    def erasures(self) -> tuple[Erasure, ...]:
        return ()

    def find(self, job_id: UUID) -> Job | None:
        return _or(None, lambda: self._client.get(job_id))

    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        return _or((), lambda: self._client.history(job_id))

    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        return {job_id: self.history(job_id) for job_id in job_ids}

    def events_after(self, seen: Mapping[UUID, int], *, limit: int = MAX_LISTED) -> Mapping[UUID, tuple[JobEvent, ...]]:
        raise _missing("following many histories")

    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        raise _missing("listing histories")

    def ledger(self, *, after: UUID | None = None) -> Iterator[Recorded]:
        raise _missing("reading the whole ledger")

    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        return {job_id: self._assets(job_id) for job_id in job_ids}

    def _assets(self, job_id: UUID) -> tuple[Asset, ...]:
        return _or((), lambda: self._client.assets(job_id))

    def refusals(self, job_id: UUID) -> int:
        return _or(0, lambda: self._client.refusals(job_id))

    def workers(self) -> tuple[WorkerRecord, ...]:
        return ()


def _or(nothing: Answer, ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except JobNotFound:
        return nothing


def _check_tenant(scope: Scope) -> None:
    if isinstance(scope, System):
        raise _missing("what is done for every organisation")


def _missing(what: str) -> CapabilityMissing:
    return CapabilityMissing(f"{what} is not possible over HTTP; do it where the database is")
