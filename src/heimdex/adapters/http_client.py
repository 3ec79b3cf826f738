"""Heimdex through the HTTP API of another process: the same values and the same errors as on a ledger of one's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

import attrs

from heimdex.adapters.http_calls import Document, HttpCalls
from heimdex.domain.asset import Asset
from heimdex.domain.errors import InvalidInput
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import canonical
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.operations import QueueCounts
from heimdex.domain.results import Created
from heimdex.domain.rules import MAX_REASON, check_text, to_text
from heimdex.domain.transitions import Status
from heimdex.domain.waiting import Blocker
from heimdex.service_layer.documents import restored
from heimdex.service_layer.ports import Page, Statistics

Thing = TypeVar("Thing", bound=attrs.AttrsInstance)

# What stands where a token may not read the content, which is null then.
_HIDDEN: Document = {"uri": "", "detail": {}, "metadata": {}}


class HttpClient:
    """One organisation's jobs, those of the token's. Use it as a context manager, or close it.

    Every call may raise what the same call on a ledger raises; NotAuthenticated, NotPermitted and LimitReached;
    DatabaseUnavailable where the API cannot be reached; CommitOutcomeUnknown where the connection was lost once a
    change was on its way: a job that is created with an idempotency key can be created again then.

    A token that may not read content gets payloads that are null, and empty details, metadata and uris.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._api = HttpCalls(url, token)

    def create(self, new: NewJob, *, parent_id: UUID | None = None) -> Created:
        return self._api.post("/v1/jobs", _wanted(new) | _below(parent_id), _created)

    def create_many(self, new_jobs: Sequence[NewJob], *, parent_id: UUID | None = None) -> list[Created]:
        """Create at most 1,000 jobs, all or none; answers in the order given."""
        body = {"jobs": [_wanted(new) for new in new_jobs]} | _below(parent_id)
        return self._api.post("/v1/jobs:batch", body, lambda answer: [_created(one) for one in _listed(answer, "jobs")])

    def cancel(self, job_id: UUID, reason: str) -> Job:
        return self._api.post(f"/v1/jobs/{job_id}/cancel", _reason(reason), _one(Job))

    def retry(self, job_id: UUID, reason: str) -> Job:
        return self._api.post(f"/v1/jobs/{job_id}/retry", _reason(reason), _one(Job))

    def pause(self, queue: str, reason: str) -> None:
        self._api.post(f"{_of(queue)}/pause", _reason(reason), lambda _: None)

    def resume(self, queue: str) -> bool:
        """Return whether the organisation had paused the queue."""
        return self._api.post(f"{_of(queue)}/resume", None, lambda answer: bool(answer["was_paused"]))

    def get(self, job_id: UUID) -> Job:
        return self._api.get(f"/v1/jobs/{job_id}", _one(Job))

    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 50) -> Page:
        """Return jobs, newest first, at most 200."""
        return self._api.get("/v1/jobs", _page, _query(which) | _given(after=after, limit=limit))

    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        """Return a job's events in the order of `seq`, page by page until the last."""
        events: tuple[JobEvent, ...] = ()
        after: int | None = 0
        while after is not None:
            found, after = self._api.get(f"/v1/jobs/{job_id}/history", _part_of_history, _given(after=after))
            events += found
        return events

    def refusals(self, job_id: UUID) -> int:
        path = f"/v1/jobs/{job_id}/history"
        return self._api.get(path, lambda answer: cast("int", answer["refusals"]), _given(limit=1))

    def assets(self, job_id: UUID) -> tuple[Asset, ...]:
        return self._api.get(f"/v1/jobs/{job_id}/assets", _all(Asset, "assets"))

    def why(self, job_id: UUID) -> tuple[Blocker, ...]:
        return self._api.get(f"/v1/jobs/{job_id}/why", _all(Blocker, "blockers"))

    def statistics(self) -> Statistics:
        return self._api.get("/v1/stats", _one(Statistics))

    def queues(self) -> tuple[QueueCounts, ...]:
        return self._api.get("/v1/queues", _all(QueueCounts, "queues"))

    def watch(self, job_id: UUID, *, after: int = 0) -> Iterator[JobEvent]:
        """Yield a job's events above `after` as they happen, until it rests in an end status or the token ends."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        return self._api.stream(f"/v1/jobs/{job_id}/events", _one(JobEvent), headers)

    def close(self) -> None:
        self._api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _wanted(new: NewJob) -> dict[str, object]:
    wanted: dict[str, object] = {
        "type": new.type,
        "payload": _payload(new),
        "queue": new.queue,
        "priority": new.priority,
        "scheduled_at": None if new.scheduled_at is None else to_text(new.scheduled_at),
        "idempotency_key": new.idempotency_key,
        "max_attempts": None if new.limits is None else _max_attempts(new.limits),
    }
    if new.requested_by is not None:
        raise InvalidInput("requested_by", new.requested_by, "leave it out: over HTTP it is whom the token names")
    if new.id is not None:
        raise InvalidInput("id", str(new.id), "leave it out: over HTTP an idempotency key says that it is the same job")
    return {name: value for name, value in wanted.items() if value is not None or name == "payload"}


def _payload(new: NewJob) -> object:
    canonical(new.payload, "payload")
    return new.payload


def _max_attempts(limits: JobLimits) -> int:
    if limits != JobLimits(max_attempts=limits.max_attempts):
        raise InvalidInput("limits", limits, "give max_attempts alone: the rest is what the API says of the type")
    return limits.max_attempts


def _below(parent_id: UUID | None) -> dict[str, object]:
    return {} if parent_id is None else {"parent_id": str(parent_id)}


def _reason(reason: str) -> dict[str, object]:
    return {"reason": check_text("reason", reason, MAX_REASON)}


def _of(queue: str) -> str:
    # A name of dots alone would be a step to another path.
    return f"/v1/queues/{quote(check_text('queue', queue), safe='').replace('.', '%2E')}"


def _query(which: JobFilter) -> dict[str, str]:
    return _given(
        status=which.status,
        type=which.type,
        queue=which.queue,
        requested_by=which.requested_by,
        parent_id=which.parent_id,
        created_from=None if which.created_from is None else to_text(which.created_from),
        created_before=None if which.created_before is None else to_text(which.created_before),
        payload_path=None if which.payload is None else ".".join(which.payload.path),
        payload_value=None if which.payload is None else which.payload.value_json,
    )


def _given(**values: Status | str | int | UUID | None) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _created(answer: Document) -> Created:
    return Created(restored(Job, cast("Document", answer["job"])), bool(answer["replayed"]))


def _page(answer: Document) -> Page:
    after = cast("str | None", answer["next_after"])
    return Page(_all(Job, "jobs")(answer), None if after is None else UUID(after))


def _part_of_history(answer: Document) -> tuple[tuple[JobEvent, ...], int | None]:
    return _all(JobEvent, "events")(answer), cast("int | None", answer["next_after"])


def _one(kind: type[Thing]) -> Callable[[Document], Thing]:
    def read(answer: Document) -> Thing:
        hidden = {name: nothing for name, nothing in _HIDDEN.items() if name in answer and answer[name] is None}
        return restored(kind, {**answer, **hidden})

    return read


def _all(kind: type[Thing], name: str) -> Callable[[Document], tuple[Thing, ...]]:
    return lambda answer: tuple(map(_one(kind), _listed(answer, name)))


def _listed(answer: Mapping[str, object], name: str) -> Sequence[Document]:
    return cast("Sequence[Document]", answer[name])
