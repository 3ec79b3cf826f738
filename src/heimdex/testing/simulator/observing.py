"""What must be so after every commit and every start of a function, and what has happened at least once.

The rules here are those that a ledger alone cannot show: who wrote, when by the database's clock, and what callers and
job functions were told. What a history shows by itself is `domain.verification`'s.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import define, field, frozen

from heimdex.domain.asset import Asset
from heimdex.domain.errors import IllegalTransition
from heimdex.domain.events import JobEvent
from heimdex.domain.fold import explains
from heimdex.domain.job import MAX_CRASHES, WORKER_LOST, Hold, Job
from heimdex.domain.results import Created
from heimdex.domain.transitions import END_STATUSES, Status, Trigger
from heimdex.domain.verification import check

_HOLDERS = frozenset({Trigger.SUCCEED, Trigger.FAIL, Trigger.SNOOZE, Trigger.RELEASE, Trigger.PROGRESS, Trigger.LOG})
_BACK = frozenset({Trigger.RETRY, Trigger.SNOOZE, Trigger.RELEASE})
# What an event does to the number of attempts; every other one leaves it.
_ATTEMPTS = {Trigger.CLAIM: 1, Trigger.EXPIRE: -1, Trigger.SNOOZE: -1, Trigger.RELEASE: -1}


@frozen
class Violation:
    """A rule that was broken, and how."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@frozen(kw_only=True)
class Commit:
    """What one unit of work has made of the ledger.

    Args:
        at: the database's time.
        gone: the jobs that it deleted.
        torn: the jobs, of whatever unit of work, whose row and history do not belong together at this moment.
    """

    at: datetime
    source: str | None
    before: Mapping[UUID, Job]
    after: Mapping[UUID, Job]
    events: Mapping[UUID, Sequence[JobEvent]]
    histories: Mapping[UUID, Sequence[JobEvent]]
    assets: Collection[Asset]
    refused: int
    gone: Collection[UUID] = ()
    torn: Collection[UUID] = ()


@define(eq=False)
class Observer:
    """Takes in what happens; the first violation ends a run.

    Args:
        lease_slack: how much longer than its lease a worker may believe in it, since its clock runs too slowly.
    """

    lease_slack: timedelta
    violations: list[Violation] = field(factory=list, init=False)
    reached: Counter[str] = field(factory=Counter, init=False)
    # Whether the database's clock has been set: then times cannot be compared any more.
    clock_was_set: bool = field(default=False, init=False)
    starts: Counter[UUID] = field(factory=Counter, init=False)
    _claims: dict[Hold, UUID | None] = field(factory=dict, init=False)
    _started: set[Hold] = field(factory=set, init=False)
    # Of the holds that have expired, until when their leases ran.
    _ran_out: dict[Hold, datetime] = field(factory=dict, init=False)
    _running: Counter[UUID] = field(factory=Counter, init=False)
    _succeeded: set[UUID] = field(factory=set, init=False)
    _rests: Counter[UUID] = field(factory=Counter, init=False)
    _lengths: Counter[UUID] = field(factory=Counter, init=False)
    _keys: dict[tuple[UUID, str], UUID] = field(factory=dict, init=False)
    _acknowledged: set[UUID] = field(factory=set, init=False)

    def violate(self, rule: str, what: str) -> None:
        self.violations.append(Violation(rule, what))

    # Commits

    def committed(self, commit: Commit) -> None:
        self._acknowledged -= set(commit.gone)
        if commit.refused:
            self.reached["a stale write was refused"] += 1
        for job_id, after in commit.after.items():
            before = commit.before.get(job_id)
            events = commit.events.get(job_id, ())
            if not events and before is not None:
                self._renewed(before, after, commit)
            for event in events:
                self._moved(before, event, commit)
            self._counted(before, after, events)
            self._rested(before, after, events)
            self._explained(after, commit.histories[job_id], len(events))
        for job_id in commit.torn:
            self.violate("row_without_event", f"job {job_id} at {commit.at}")
        for asset in commit.assets:
            if not any(event.trigger is Trigger.SUCCEED for event in commit.events.get(asset.job_id, ())):
                self.violate("effect_without_success", f"asset {asset.uri} of job {asset.job_id}")

    def _renewed(self, before: Job, after: Job, commit: Commit) -> None:
        if before.lease_until == after.lease_until:
            return
        holder = {f"worker {before.claimed_by}", f"job {before.id}"}
        if before.status is not Status.RUNNING or (_is_ours(commit.source) and commit.source not in holder):
            self.violate(
                "renewed_by_stranger", f"{commit.source} prolonged job {before.id}, held by {before.claimed_by}"
            )

    def _moved(self, before: Job | None, event: JobEvent, commit: Commit) -> None:
        if before is not None and before.org_id != event.org_id:
            self.violate("one_organisation", f"{event}")
        if event.trigger is Trigger.CLAIM:
            self._claimed(before, event)
        if before is None:
            return
        expired = event.detail.get("last_error_code") == WORKER_LOST.code
        if event.trigger is Trigger.EXPIRE or (event.trigger is Trigger.CANCEL and expired):
            self.reached["a lease expired"] += 1
            if not self.clock_was_set and (before.lease_until is None or before.lease_until > commit.at):
                self.violate("expired_in_force", f"job {before.id} at {commit.at}, lease until {before.lease_until}")
            if before.hold is not None and before.lease_until is not None:
                self._ran_out[before.hold] = before.lease_until
        elif event.trigger in _HOLDERS and _is_ours(event.source) and event.source != f"worker {before.claimed_by}":
            self.violate("written_by_stranger", f"{event} while {before.claimed_by} holds it")
        if before.status is Status.RUNNING and before.cancel_requested_at is not None and event.trigger in _BACK:
            self.violate("cancel_forgotten", f"{event}")
        self._note(before, event)

    def _claimed(self, before: Job | None, event: JobEvent) -> None:
        worker = event.detail.get("claimed_by")
        hold = Hold(event.job_id, event.seq)
        if hold in self._claims:
            self.violate("claimed_twice", f"{hold}")
        self._claims[hold] = UUID(str(worker))
        if before is not None and before.scheduled_at > event.ts and not self.clock_was_set:
            self.violate("claimed_early", f"{event}, due at {before.scheduled_at}")

    def _counted(self, before: Job | None, after: Job, events: Sequence[JobEvent]) -> None:
        """Look whether attempts were counted when they began, and given back when they were no failure."""
        attempt = 0 if before is None else before.attempt
        for event in events:
            if event.trigger is Trigger.RETRY_BY_HAND:
                attempt = 0
            elif event.trigger is Trigger.CANCEL and event.detail.get("last_error_code") == WORKER_LOST.code:
                attempt -= 1
            else:
                attempt += _ATTEMPTS.get(event.trigger, 0)
        if after.attempt != attempt:
            triggers = ", ".join(event.trigger for event in events)
            self.violate("attempt_miscounted", f"job {after.id} has attempt {after.attempt}, not {attempt}: {triggers}")

    def _note(self, before: Job, event: JobEvent) -> None:
        if event.trigger is Trigger.SUCCEED:
            self._succeeded.add(event.job_id)
            if before.cancel_requested_at is not None:
                self.reached["a success beat a cancel"] += 1
        elif event.trigger is Trigger.RELEASE:
            self.reached["a job was given back"] += 1
        elif event.trigger is Trigger.BURY:
            crashed = before.crashes + 1 >= MAX_CRASHES and event.prev_status is Status.FAILED
            self.reached["a job was buried for its crashes" if crashed else "attempts were used up"] += 1
        elif event.trigger is Trigger.CANCEL and before.status is Status.RUNNING:
            self.reached["a running job was canceled"] += 1
        elif event.trigger is Trigger.RETRY_BY_HAND:
            self._rests[event.job_id] = 0
            self.reached["a job was retried by hand"] += 1

    def _rested(self, before: Job | None, after: Job, events: Sequence[JobEvent]) -> None:
        if before is not None and before.status in END_STATUSES and events:
            if events[0].trigger is not Trigger.RETRY_BY_HAND:
                self.violate("left_an_end_status", f"{events[0]}")
        elif after.status in END_STATUSES:
            self._rests[after.id] += 1
            if self._rests[after.id] > 1:
                self.violate("ended_twice", f"job {after.id}")

    def _explained(self, after: Job, history: Sequence[JobEvent], added: int) -> None:
        if len(history) != self._lengths[after.id] + added:
            self.violate(
                "history_rewritten", f"job {after.id} had {self._lengths[after.id]} events, now {len(history)}"
            )
        self._lengths[after.id] = len(history)
        for finding in check(after, history):
            self.violate(finding.rule, f"job {finding.job_id}, event {finding.seq}: {finding.text}")

    def refused(self, source: str | None, error: IllegalTransition) -> None:
        """Take in that the domain refused a move. A worker looks under the lock before it asks for one."""
        if _is_ours(source):
            self.violate("moved_blindly", f"{source}: {error}")

    # Callers and job functions

    def acknowledged(self, answers: Collection[Created]) -> None:
        """Take in that a caller was told that these jobs are there."""
        for job, replayed in ((answer.job, answer.replayed) for answer in answers):
            self._acknowledged.add(job.id)
            if replayed:
                self.reached["a create was replayed"] += 1
            if job.idempotency_key is not None:
                first = self._keys.setdefault((job.org_id, job.idempotency_key), job.id)
                if first != job.id:
                    self.violate("key_made_two_jobs", f"{job.idempotency_key} of {job.org_id}: {first} and {job.id}")

    def started(self, job: Job, worker: UUID, row: Job | None, now: datetime) -> None:
        """Take in that the function of a job begins, on a worker; `row` is the job as the ledger has it now."""
        hold = Hold(job.id, job.lease_seq or 0)
        self.starts[job.id] += 1
        self._running[job.id] += 1
        if self._running[job.id] > 1:
            self.reached["a function ran on after its lease was lost"] += 1
        if job.suspect:
            self.reached["a suspect was started"] += 1
        if hold in self._started:
            self.violate("started_twice", f"{hold}")
        self._started.add(hold)
        if self._claims.get(hold) != worker:
            self.violate("started_without_claim", f"{hold} on worker {worker}")
        # One whose lease has run out may be started by a slow clock, as below, and the next holder be quick.
        if job.id in self._succeeded and hold not in self._ran_out:
            self.violate("started_after_success", f"{hold}")
        # Somebody may have found the lease run out while the worker's clock still believes in it.
        held_until = row.lease_until if row is not None and row.hold == hold else self._ran_out.get(hold)
        if not self.clock_was_set and (held_until is None or held_until + self.lease_slack < now):
            self.violate("started_without_lease", f"{hold} at {now}, lease until {held_until}")

    def ended(self, job_id: UUID) -> None:
        """Take in that the function of a job has returned, or that its process has gone."""
        self._running[job_id] -= 1

    # The end

    def came_to_rest(self, jobs: Collection[Job], histories: Mapping[UUID, Sequence[JobEvent]]) -> None:
        """Take in what is there when everything should have ended."""
        there = {job.id for job in jobs}
        for job_id in sorted(self._acknowledged - there):
            self.violate("lost", f"job {job_id} was acknowledged and is not there")
        for job in jobs:
            # By the fold that the adapters use: what was checked after each commit has a model of its own.
            if different := explains(job, histories[job.id]):
                self.violate("row_differs", f"job {job.id}: {', '.join(different)}")
            if job.status not in END_STATUSES:
                self.violate(
                    "stuck", f"job {job.id} ({job.type}) is {job.status}, attempt {job.attempt}, {job.payload_json}"
                )
            if job.idempotency_key is not None:
                self._keys.setdefault((job.org_id, job.idempotency_key), job.id)
                if self._keys[job.org_id, job.idempotency_key] != job.id:
                    self.violate("key_made_two_jobs", f"{job.idempotency_key} of {job.org_id}")


def _is_ours(source: str | None) -> bool:
    """Return whether a source names a worker, or a running job; callers name themselves as they like."""
    return source is not None and source.startswith(("worker ", "job "))
