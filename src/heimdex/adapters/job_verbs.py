"""The verbs of a job repository in terms of a store's few primitives: lock, decide, stamp, apply, write.

Nothing is decided here: the domain decides, this module carries its decisions to rows. A store may restate a verb in
SQL for speed; the state machine of the tests holds the two equal.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar
from uuid import UUID

from attrs import evolve, frozen

from heimdex.domain.constraints import JOB_ID
from heimdex.domain.errors import (
    OF_ONE_ROW,
    HeimdexError,
    IdempotencyConflict,
    InvalidInput,
    JobNotFound,
    UniqueViolation,
)
from heimdex.domain.events import JobEvent, stamp
from heimdex.domain.fold import apply
from heimdex.domain.job import Decisions, Hold, Job, before_suspects
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import JsonValue, canonical, decode_object
from heimdex.domain.new_job import JobLimits, JobSpec, NewJob, create
from heimdex.domain.outcomes import Progress, Succeed
from heimdex.domain.results import Created, Ending, OneByOne, Refusal, Report, Written
from heimdex.domain.rules import check_length, check_uuid, check_whole
from heimdex.domain.scope import Scope, Tenant
from heimdex.domain.transitions import CANCELABLE, RETRIABLE, Status, Trigger
from heimdex.service_layer.ports import MAX_LISTED, Ids, JobRepository, Random, Specify

# Claimed one by one, so many more rows are looked at, since some of them cannot be written.
_PASSED_OVER = 100

_SHORTEST_LEASE = timedelta(milliseconds=1)

_W = TypeVar("_W")

Located: TypeAlias = tuple[datetime, dict[UUID, Job]]
"""The database's time at which rows were locked, and the rows by id, in the order in which they were asked for."""


@frozen
class Change:
    """A row as it shall be, the events that made it so, and the version and fence that it had before."""

    job: Job
    events: tuple[JobEvent, ...]
    version_before: int
    lease_seq_before: int | None


@frozen
class Tools:
    """What every repository needs from outside."""

    specify: Specify
    ids: Ids
    random: Random
    wake: Callable[[str], None]


class DecidingJobRepository(JobRepository):
    def __init__(self, scope: Scope, tools: Tools) -> None:
        self._scope = scope
        self._tools = tools

    @abstractmethod
    def _now(self) -> datetime:
        """Return the database's time."""

    @abstractmethod
    def _lock(self, job_ids: Collection[UUID]) -> Located:
        """Lock the rows of this scope with these ids, in the order of ids, waiting for other holders of the lock."""

    @abstractmethod
    def _lock_due(self, types: Collection[str], queues: Collection[str] | None, limit: int) -> Located:
        """Lock the first due rows in claim order, passing over locked ones."""

    @abstractmethod
    def _lock_matching(self, which: JobFilter, statuses: Collection[Status], after: UUID | None, limit: int) -> Located:
        """Lock the first jobs among `which` in one of `statuses`, by id above `after`, waiting for other holders."""

    @abstractmethod
    def _lock_expired(self, after: UUID | None, limit: int) -> Located:
        """Lock running rows whose lease has run out, by id above `after`, passing over locked ones."""

    @abstractmethod
    def _insert(self, changes: Sequence[Change]) -> Collection[UUID]:
        """Insert new jobs with their events, but none whose id or idempotency key is taken; return the ids inserted.

        Of several jobs with one key the first is inserted.
        """

    @abstractmethod
    def _with_keys(self, org_id: UUID, keys: Collection[str]) -> dict[str, Job]:
        """Return the jobs of an organisation that have these idempotency keys."""

    @abstractmethod
    def _write(self, changes: Sequence[Change]) -> None:
        """Write locked rows and append their events."""

    @abstractmethod
    def _refuse(self, refusals: Sequence[tuple[UUID, Refusal, Job]]) -> None:
        """Record refused writes, each under a new id and with the job as it is."""

    @abstractmethod
    def _renew(self, holds: Sequence[Hold], lease: timedelta) -> frozenset[Hold]: ...

    @abstractmethod
    def _all_or_nothing(self) -> AbstractContextManager[object]:
        """Undo what the block wrote if it raises, so that the unit of work can go on."""

    def create(
        self,
        type: str,
        payload: object = None,
        *,
        org_id: UUID | None = None,
        queue: str = "default",
        priority: int = 0,
        scheduled_at: datetime | None = None,
        idempotency_key: str | None = None,
        requested_by: str | None = None,
        limits: JobLimits | None = None,
        parent_id: UUID | None = None,
    ) -> Created:
        new = NewJob(
            type,
            {} if payload is None else payload,
            queue=queue,
            priority=priority,
            scheduled_at=scheduled_at,
            idempotency_key=idempotency_key,
            requested_by=requested_by,
            limits=limits,
        )
        org_id = self._organisation_of_new(org_id, parent_id)
        spec = self._tools.specify(new)
        # Past `create_many`, which would take longer over a list of one.
        [created] = self._keep(org_id, [spec if parent_id is None else evolve(spec, parent_id=parent_id)])
        return created

    def create_many(
        self, new_jobs: Iterable[NewJob], *, org_id: UUID | None = None, parent_id: UUID | None = None
    ) -> Sequence[Created]:
        org_id = self._organisation_of_new(org_id, parent_id)
        specs = self._specified(new_jobs)
        if parent_id is not None:
            specs = (evolve(spec, parent_id=parent_id) for spec in specs)
        return self._create_all(org_id, specs)

    def _create_all(self, org_id: UUID, to_come: Iterator[JobSpec]) -> Sequence[Created]:
        specs = list(to_come)
        check_ids(spec.new.id for spec in specs)
        if not specs:
            return []
        # One job alone cannot be half-written.
        some_may_be_refused = len(specs) > 1 and any(spec.new.id or spec.new.idempotency_key for spec in specs)
        with self._all_or_nothing() if some_may_be_refused else nullcontext():
            return self._keep(org_id, specs)

    def _specified(self, new_jobs: Iterable[NewJob]) -> Iterator[JobSpec]:
        number = 0
        try:
            for number, spec in enumerate(map(self._tools.specify, new_jobs), 1):  # noqa: B007 - told by the note
                yield spec
        except HeimdexError as error:
            error.add_note(f"job {number:,} of those given, counted from 0")
            raise

    def cancel(self, job_id: UUID, *, reason: str) -> Job:
        now, job = self._lock_one(job_id)
        self._write(self._changes([job], lambda job: job.cancel(reason), now))
        return job

    def retry_by_hand(self, job_id: UUID, *, reason: str) -> Job:
        now, job = self._lock_one(job_id)
        self._write(self._changes([job], lambda job: job.retry_by_hand(reason), now))
        self._wake_for([job], now)
        return job

    def cancel_matching(
        self, which: JobFilter, *, reason: str, after: UUID | None = None, limit: int = MAX_LISTED
    ) -> list[Job]:
        check_whole("limit", limit, 0, MAX_LISTED)
        now, jobs = self._lock_matching(which, CANCELABLE, after, limit)
        self._write(self._changes(jobs.values(), lambda job: job.cancel(reason), now))
        return list(jobs.values())

    def retry_matching(
        self, which: JobFilter, *, reason: str, after: UUID | None = None, limit: int = MAX_LISTED
    ) -> list[Job]:
        check_whole("limit", limit, 0, MAX_LISTED)
        now, jobs = self._lock_matching(which, RETRIABLE, after, limit)
        self._write(self._changes(jobs.values(), lambda job: job.retry_by_hand(reason), now))
        self._wake_for(jobs.values(), now)
        return list(jobs.values())

    def claim(self, job_id: UUID, *, worker: UUID, lease: timedelta) -> Job:
        lease = check_length("lease", lease, shortest=_SHORTEST_LEASE)
        _, job = self._lock_one(job_id)
        # Asked again: the lock may have come late, and the lease would be shorter by the wait.
        now = self._now()
        self._write([self._change(job, job.claim(worker=check_uuid("worker", worker), lease=lease), now)])
        return job

    def claim_due(
        self,
        *,
        worker: UUID,
        types: Collection[str],
        lease: timedelta,
        limit: int,
        queues: Collection[str] | None = None,
    ) -> list[Job]:
        check_whole("limit", limit, 0, MAX_LISTED)
        lease = check_length("lease", lease, shortest=_SHORTEST_LEASE)
        if not types or not limit or (queues is not None and not queues):
            return []
        return self._claim_due(check_uuid("worker", worker), frozenset(types), lease, limit, queues)

    def _claim_due(
        self, worker: UUID, types: Collection[str], lease: timedelta, limit: int, queues: Collection[str] | None
    ) -> list[Job]:
        now, candidates = self._lock_due(types, queues, limit)
        jobs = before_suspects(list(candidates.values()))
        self._write([self._change(job, job.claim(worker=worker, lease=lease), now) for job in jobs])
        return list(jobs)

    def claim_one_by_one(
        self,
        *,
        worker: UUID,
        types: Collection[str],
        lease: timedelta,
        limit: int,
        queues: Collection[str] | None = None,
    ) -> OneByOne:
        check_whole("limit", limit, 0, MAX_LISTED)
        worker, lease = check_uuid("worker", worker), check_length("lease", lease, shortest=_SHORTEST_LEASE)
        now, candidates = self._lock_due(types, queues, limit + _PASSED_OVER)
        claimed: list[Job] = []
        passed_over: list[UUID] = []
        for job in candidates.values():
            # As in a batch: a leading suspect alone, else none at all.
            if len(claimed) == limit or (claimed and (job.suspect or claimed[0].suspect)):
                break
            try:
                with self._all_or_nothing():
                    self._write([self._change(job, job.claim(worker=worker, lease=lease), now)])
            except OF_ONE_ROW:
                passed_over.append(job.id)
            else:
                claimed.append(job)
        return OneByOne(tuple(claimed), tuple(passed_over))

    def finish(self, endings: Sequence[Ending]) -> Written:
        return self._write_fenced([(_hold(ending.job), ending, _trigger(ending)) for ending in endings], self._end)

    def _end(self, job: Job, ending: Ending) -> Decisions:
        decisions = job.finish(ending.outcome, random=self._tools.random, progress=ending.progress)
        if isinstance(ending.outcome, Succeed):
            vars(job)["result_json"] = ending.outcome.result_json
        return decisions

    def report(self, reports: Sequence[Report]) -> Written:
        def add(job: Job, report: Report) -> Decisions:
            if isinstance(report.entry, Progress):
                return job.report(report.entry)
            return job.log(decode_object(report.entry.detail_json))

        return self._write_fenced([(report.hold, report, _trigger(report)) for report in reports], add)

    def log(self, job_id: UUID, detail: Mapping[str, JsonValue]) -> Job:
        detail_json = canonical(dict(detail), "detail")
        now, job = self._lock_one(job_id)
        self._write([self._change(job, job.log(decode_object(detail_json)), now)])
        return job

    def renew(self, holds: Sequence[Hold], *, lease: timedelta) -> frozenset[Hold]:
        lease = check_length("lease", lease, shortest=_SHORTEST_LEASE)
        if not holds:
            return frozenset()
        kept = self._renew(holds, lease)
        lost = [Refusal(hold.job_id, hold.lease_seq, "renew") for hold in holds if hold not in kept]
        if lost:
            _, jobs = self._lock({refusal.job_id for refusal in lost})
            self._record(lost, jobs)
        return kept

    def expire(self, *, limit: int, after: UUID | None = None) -> list[Job]:
        now, jobs = self._lock_expired(after, check_whole("limit", limit, 0, MAX_LISTED))
        changes = [self._change(job, job.expire(), now) for job in jobs.values()]
        self._write(changes)
        self._wake_for(jobs.values(), now)
        return list(jobs.values())

    def expire_one_by_one(self, *, limit: int, after: UUID | None = None) -> OneByOne:
        now, jobs = self._lock_expired(after, check_whole("limit", limit, 0, MAX_LISTED))
        expired: list[Job] = []
        passed_over: list[UUID] = []
        for job in jobs.values():
            try:
                with self._all_or_nothing():
                    self._write([self._change(job, job.expire(), now)])
            except OF_ONE_ROW:
                passed_over.append(job.id)
            else:
                expired.append(job)
        self._wake_for(expired, now)
        return OneByOne(tuple(expired), tuple(passed_over))

    def made_by(self, new_jobs: Sequence[NewJob], *, parent_id: UUID | None = None) -> dict[UUID, Job]:
        with_ids = {new.id: new for new in new_jobs if new.id is not None}
        return {
            job_id: job
            for job_id, job in self.find_many(with_ids).items()
            if self._is_made_by(job, with_ids[job_id], parent_id)
        }

    def _is_made_by(self, job: Job, new: NewJob, parent_id: UUID | None) -> bool:
        fingerprint = self._tools.specify(new).fingerprint
        asked = (new.idempotency_key, fingerprint, parent_id)
        return (job.idempotency_key, job.fingerprint, job.parent_id) == asked

    def _write_fenced(self, writes: Sequence[tuple[Hold, _W, str]], decide: Callable[[Job, _W], Decisions]) -> Written:
        """Apply holders' writes to the rows that they still hold, and record the others as refused."""
        now, jobs = self._lock({hold.job_id for hold, _, _ in writes})
        parts: dict[UUID, list[Change]] = {}
        refusals: list[Refusal] = []
        for hold, write, trigger in sorted(writes, key=lambda item: item[0].job_id):
            job = jobs.get(hold.job_id)
            if job is None or job.hold != hold:
                refusals.append(Refusal(hold.job_id, hold.lease_seq, trigger))
                continue
            parts.setdefault(job.id, []).append(self._change(job, decide(job, write), now))
        changes = [_as_one(several) for several in parts.values()]
        self._write(changes)
        self._record(refusals, jobs)
        self._wake_for((change.job for change in changes), now)
        return Written(tuple(change.job for change in changes), tuple(refusals))

    def _record(self, refusals: Iterable[Refusal], jobs: Mapping[UUID, Job]) -> None:
        """Record the refused writes to jobs that exist in this scope."""
        known = [(self._tools.ids(), refusal, jobs[refusal.job_id]) for refusal in refusals if refusal.job_id in jobs]
        if known:
            self._refuse(known)

    def _changes(self, jobs: Iterable[Job], decide: Callable[[Job], Decisions], now: datetime) -> list[Change]:
        """Decide for each job; one for which there is nothing to decide is left as it is."""
        decided = [(job, decide(job)) for job in jobs]
        return [self._change(job, decisions, now) for job, decisions in decided if decisions]

    def _change(self, job: Job, decisions: Decisions, now: datetime) -> Change:
        """Stamp decisions and apply them to `job`, which may have been written while its lock was waited for."""
        version, lease_seq, now = job.version, job.lease_seq, max(now, job.updated_at)
        events = []
        for decision in decisions:
            event = stamp(decision, job_id=job.id, org_id=job.org_id, seq=job.version + 1, ts=now, scope=self._scope)
            apply(job, event, decision.detail_at(now))
            events.append(event)
        return Change(job, tuple(events), version, lease_seq)

    def _keep(self, org_id: UUID, specs: Sequence[JobSpec]) -> Sequence[Created]:
        """Insert new jobs; what a key made before comes back in the place of those it belongs to."""
        now = self._now()
        changes = [self._born(spec, org_id, now) for spec in specs]
        inserted = self._insert(changes)
        jobs = [change.job for change in changes]
        return self._answers(org_id, jobs, [job for job in jobs if job.id not in inserted])

    def _answers(self, org_id: UUID, jobs: Sequence[Job], refused: Sequence[Job]) -> list[Created]:
        keys = {job.idempotency_key for job in refused if job.idempotency_key is not None}
        stored = self._with_keys(org_id, keys) if keys else {}
        _check_refused_for_keys(jobs, refused, stored)
        replays = {job.id: _replay(job, stored) for job in refused}
        created = [replays.get(job.id) or Created(job, replayed=False) for job in jobs]
        born = [one.job for one in created if not one.replayed]
        if born:
            self._wake_for(born, born[0].created_at)
        return created

    def _born(self, spec: JobSpec, org_id: UUID, now: datetime) -> Change:
        job_id = spec.new.id or self._tools.ids()
        decision = create(spec, job_id=job_id, requested_by=self._scope.actor)
        event = stamp(decision, job_id=job_id, org_id=org_id, seq=1, ts=now, scope=self._scope)
        job = apply(None, event, decision.detail_at(now))
        vars(job)["payload_json"] = spec.payload_json
        return Change(job, (event,), 0, None)

    def _lock_one(self, job_id: UUID) -> tuple[datetime, Job]:
        now, jobs = self._lock({job_id})
        if job_id not in jobs:
            raise JobNotFound(job_id)
        return now, jobs[job_id]

    def _organisation(self, org_id: UUID | None) -> UUID:
        named = None if org_id is None else check_uuid("org_id", org_id)
        if isinstance(self._scope, Tenant):
            if named not in {None, self._scope.org_id}:
                raise InvalidInput("org_id", org_id, "leave it out: the unit of work is one organisation's")
            return self._scope.org_id
        if named is None:
            raise InvalidInput("org_id", org_id, "name the organisation: this unit of work is the system's")
        return named

    def _organisation_of_new(self, org_id: UUID | None, parent_id: UUID | None) -> UUID:
        org_id = self._organisation(org_id)
        if parent_id is not None and self.get(parent_id).org_id != org_id:
            raise JobNotFound(parent_id)
        return org_id

    def _wake_for(self, jobs: Iterable[Job], now: datetime) -> None:
        for queue in {job.queue for job in jobs if job.status is Status.QUEUED and job.scheduled_at <= now}:
            self._tools.wake(queue)


def _as_one(changes: Sequence[Change]) -> Change:
    """Return several changes of one row as one: the last row, all the events, and what was before the first."""
    first, last = changes[0], changes[-1]
    events = tuple(event for change in changes for event in change.events)
    return Change(last.job, events, first.version_before, first.lease_seq_before)


def check_held(job: Job) -> int:
    """Return the fence of a job that somebody holds."""
    # Past SQLAlchemy's attributes: this is asked for every job that ends.
    lease_seq: int | None = vars(job)["lease_seq"]
    if lease_seq is None:
        raise InvalidInput("job", str(job.id), "give a job as its claim returned it")
    return lease_seq


def _hold(job: Job) -> Hold:
    return Hold(job.id, check_held(job))


def _trigger(write: Ending | Report) -> str:
    """Return the word for a refused write."""
    if isinstance(write, Report):
        return Trigger.PROGRESS if isinstance(write.entry, Progress) else Trigger.LOG
    return type(write.outcome).__name__.lower()


def check_ids(given: Iterable[UUID | None]) -> None:
    # By their numbers: to hash an id is a call of Python.
    ids = [job_id.int for job_id in given if job_id is not None]
    if len(ids) != len(set(ids)):
        raise UniqueViolation(JOB_ID)


def _check_refused_for_keys(jobs: Sequence[Job], refused: Sequence[Job], stored: Mapping[str, Job]) -> None:
    """Check that whatever was refused had its key taken: before, or by a job that was given earlier.

    Raises:
        UniqueViolation: it was not the key that was taken, so it was the id.
    """
    places = {job.id: place for place, job in enumerate(jobs)} if refused else {}
    for job in refused:
        earlier = stored.get(job.idempotency_key or "")
        if earlier is None or places.get(earlier.id, -1) > places[job.id]:
            raise UniqueViolation(JOB_ID)


def _replay(job: Job, stored: Mapping[str, Job]) -> Created:
    """Return the job that the idempotency key of a refused one made before.

    Raises:
        IdempotencyConflict: that job has another type or payload.
    """
    earlier = stored[job.idempotency_key or ""]
    if earlier.fingerprint != job.fingerprint:
        raise IdempotencyConflict(job.idempotency_key or "", earlier.id, earlier.fingerprint, job.fingerprint)
    # Under the id that was asked for it is this very job, of a try whose commit nobody heard of.
    return Created(earlier, replayed=earlier.id != job.id)
