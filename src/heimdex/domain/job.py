"""The job: its columns, and its verbs, which decide and change nothing."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TypeAlias
from uuid import UUID

from attrs import define, field, fields_dict, frozen

from heimdex.domain.backoff import NO_WAIT, Backoff, Exponential, Fixed, NoRetry, delay
from heimdex.domain.errors import IllegalTransition
from heimdex.domain.events import Decision, decided
from heimdex.domain.json_text import JsonValue, decode, digest
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.rules import MAX_REASON, check_text, from_milliseconds, to_milliseconds
from heimdex.domain.transitions import TRANSITIONS, Status, Trigger

MAX_CRASHES = 3
WORKER_LOST = Fail("worker_lost", "the lease expired: the worker died, was cut off or stood still")

_RETRYING = frozenset({Exponential.policy, Fixed.policy})

Decisions: TypeAlias = tuple[Decision, ...]
Detail: TypeAlias = dict[str, JsonValue]


@frozen(cache_hash=True)
class Hold:
    """A worker's hold on a running job. `lease_seq` is the number of the claim event and never repeats for a job."""

    job_id: UUID
    lease_seq: int


@define(slots=False, eq=False)
class Job:
    """A unit of work of one organisation. One that left a repository is a copy: changing it changes nothing stored."""

    id: UUID
    org_id: UUID
    parent_id: UUID | None
    type: str
    queue: str
    priority: int
    payload_json: str = field(repr=False)
    result_json: str | None = field(repr=False)
    status: Status
    attempt: int
    max_attempts: int
    backoff_policy: str
    backoff_base: timedelta
    backoff_factor: float
    backoff_cap: timedelta
    backoff_jitter: float
    timeout: timedelta
    scheduled_at: datetime
    idempotency_key: str | None
    fingerprint: str
    requested_by: str
    stage: str | None
    progress: int
    claimed_by: UUID | None
    lease_seq: int | None
    lease_until: datetime | None
    crashes: int
    cancel_requested_at: datetime | None
    last_error_code: str | None
    last_error_message: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int

    @property
    def payload(self) -> JsonValue:
        """The decoded payload, a new copy each time. Raises ValueError where a row was written past Heimdex."""
        return decode(self.payload_json)

    @property
    def result(self) -> JsonValue:
        """The decoded result, a new copy each time; None while there is none."""
        return None if self.result_json is None else decode(self.result_json)

    @property
    def backoff(self) -> Backoff:
        """How it waits between attempts. Raises InvalidInput where a row was written past Heimdex."""
        match self.backoff_policy:
            case Exponential.policy:
                return Exponential(
                    base=self.backoff_base, factor=self.backoff_factor, cap=self.backoff_cap, jitter=self.backoff_jitter
                )
            case Fixed.policy:
                return Fixed(base=self.backoff_base, jitter=self.backoff_jitter)
            case _:
                return NoRetry()

    @property
    def hold(self) -> Hold | None:
        """The hold of the worker that runs it; None unless running."""
        return None if self.lease_seq is None else Hold(self.id, self.lease_seq)

    @property
    def suspect(self) -> bool:
        """Whether a run of it has ended its worker before. A suspect runs alone."""
        return self.crashes > 0

    def claim(self, *, worker: UUID, lease: timedelta) -> Decisions:
        detail: Detail = {"attempt": self.attempt + 1, "claimed_by": str(worker)}
        return (self._decided(Trigger.CLAIM, detail, lengths={"lease_until": lease}),)

    def finish(self, outcome: Outcome, *, random: Callable[[], float], progress: Progress | None = None) -> Decisions:
        """Decide what becomes of a running job. A success beats a requested cancel; a cancel beats every way back.

        Args:
            progress: the last report, when no event of its own has carried it.
        """
        if self.status is not Status.RUNNING:  # a queued job may be canceled, but there is no run to end
            raise IllegalTransition(self.id, self.status, "finish", tuple(TRANSITIONS[self.status]))
        ending = self._ending() | (progress.detail if progress else {})
        match outcome:
            case Succeed(result_json):
                return (self._decided(Trigger.SUCCEED, ending | result_detail(result_json)),)
            case Cancel(reason):
                return (self._decided(Trigger.CANCEL, ending, reason=reason),)
            case Fail():
                return self._fail(outcome, ending | _error(outcome), random)
            case Snooze(for_):
                return (self._give_back(Trigger.SNOOZE, for_, ending),)
            case Release(reason):
                return (self._give_back(Trigger.RELEASE, NO_WAIT, ending, reason),)

    def expire(self) -> Decisions:
        """Decide what becomes of a job whose lease ran out: its attempt is given back and a crash is counted."""
        attempt, crashes = self.attempt - 1, self.crashes + 1
        ending = self._ending() | _error(WORKER_LOST) | {"attempt": attempt, "crashes": crashes}
        if self.cancel_requested_at is not None:
            return (self._decided(Trigger.CANCEL, ending),)
        failed = self._decided(Trigger.EXPIRE, ending)
        if crashes >= MAX_CRASHES or self.max_attempts == 1:
            return (failed, self._decided(Trigger.BURY, status=failed.next_status))
        return (failed, self._requeue(Trigger.RETRY, failed.next_status, attempt=attempt, crashes=crashes))

    def cancel(self, reason: str) -> Decisions:
        """Decide to cancel by hand: a queued job ends at once, a running one is asked to."""
        check_text("reason", reason, MAX_REASON)
        if self.status is Status.RUNNING:
            asked_before = self.cancel_requested_at is not None
            return () if asked_before else (self._decided(Trigger.REQUEST_CANCEL, reason=reason),)
        return (self._decided(Trigger.CANCEL, reason=reason),)

    def retry_by_hand(self, reason: str) -> Decisions:
        """Decide to queue an ended job again: attempts and crashes start anew, the last error stays."""
        check_text("reason", reason, MAX_REASON)
        return (self._requeue(Trigger.RETRY_BY_HAND, self.status, attempt=0, crashes=0, reason=reason),)

    def report(self, progress: Progress) -> Decisions:
        return (self._decided(Trigger.PROGRESS, progress.detail),)

    def log(self, detail: Detail) -> Decisions:
        return (self._decided(Trigger.LOG, detail),)

    def _fail(self, error: Fail, ending: Detail, random: Callable[[], float]) -> Decisions:
        if self.cancel_requested_at is not None:
            return (self._decided(Trigger.CANCEL, ending),)
        failed = self._decided(Trigger.FAIL, ending)
        if error.permanent or self.backoff_policy not in _RETRYING:
            return (failed,)
        if self.attempt >= self.max_attempts:
            return (failed, self._decided(Trigger.BURY, status=failed.next_status))
        # Built only where it is needed: a job whose backoff was written past Heimdex can still end.
        wait = delay(self.backoff, self.attempt, random())
        return (failed, self._requeue(Trigger.RETRY, failed.next_status, wait))

    def _give_back(self, trigger: Trigger, wait: timedelta, ending: Detail, reason: str | None = None) -> Decision:
        if self.cancel_requested_at is not None:
            return self._decided(Trigger.CANCEL, ending, reason=reason)
        return self._requeue(trigger, self.status, wait, attempt=self.attempt - 1, reason=reason, ending=ending)

    def _requeue(
        self,
        trigger: Trigger,
        status: Status,
        wait: timedelta = NO_WAIT,
        *,
        attempt: int | None = None,
        crashes: int | None = None,
        reason: str | None = None,
        ending: Detail | None = None,
    ) -> Decision:
        milliseconds = to_milliseconds(wait)
        detail: Detail = (ending or {}) | {
            "delay_ms": milliseconds,
            "attempt": self.attempt if attempt is None else attempt,
            "crashes": self.crashes if crashes is None else crashes,
        }
        lengths = {"scheduled_at": from_milliseconds(milliseconds)}
        return self._decided(trigger, detail, lengths=lengths, reason=reason, status=status)

    def _ending(self) -> Detail:
        """What every event that leaves RUNNING carries: whose run it was."""
        return {"lease_seq": self.lease_seq, "attempt": self.attempt}

    def _decided(
        self,
        trigger: Trigger,
        detail: Detail | None = None,
        *,
        lengths: dict[str, timedelta] | None = None,
        reason: str | None = None,
        status: Status | None = None,
    ) -> Decision:
        before = self.status if status is None else status
        return decided(self.id, before, trigger, detail or {}, lengths=lengths or {}, reason=reason)


_COLUMNS = tuple(fields_dict(Job))
_values = itemgetter(*_COLUMNS)


def as_kept(columns: dict[str, object]) -> Job:
    """Return the job with these columns, every one of them, as a store keeps them: nothing is checked.

    Args:
        columns: the job's own from here on.
    """
    job = Job.__new__(Job)
    # Past __init__, which takes fifty times as long where the class is mapped.
    job.__dict__ = columns
    return job


def copied(job: Job) -> Job:
    columns = vars(job)
    # A mapped one may have more than its columns.
    return as_kept(dict(columns if len(columns) == len(_COLUMNS) else zip(_COLUMNS, _values(columns), strict=True)))


def _error(error: Fail) -> Detail:
    detail: Detail = {"last_error_code": error.code, "last_error_message": error.message}
    return detail if error.traceback is None else detail | {"traceback": error.traceback}


def result_detail(result_json: str | None) -> Detail:
    """Return what the event of a success carries of its result."""
    if result_json is None:
        return {}
    return {"result_sha256": digest(result_json), "result_bytes": len(result_json.encode())}


def before_suspects(candidates: Sequence[Job]) -> Sequence[Job]:
    """Return what one claim may take of its candidates, in their order: a leading suspect alone, else none at all."""
    for index, job in enumerate(candidates):
        if job.suspect:
            return candidates[: max(index, 1)]
    return candidates
