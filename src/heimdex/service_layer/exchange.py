"""What a worker tells the ledger and asks of it, and when: each part is one command, and what fails stays due."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar
from uuid import UUID

from heimdex.domain.commands import (
    ClaimJobs,
    ClaimOneByOne,
    DraftedCommand,
    ExpireLeases,
    ExpireOneByOne,
    FindCancelRequests,
    FinishJobs,
    MarkWorkerGone,
    MarkWorkerSeen,
    RenewLeases,
    ReportJobs,
    WasCommitted,
)
from heimdex.domain.errors import OF_ONE_ROW, CommitOutcomeUnknown, HeimdexError, shown
from heimdex.domain.results import Draft, OneByOne
from heimdex.domain.scope import System
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.pace import Timer, WorkerSettings
from heimdex.service_layer.ports import Clock
from heimdex.service_layer.runs import Runs

Answer = TypeVar("Answer")
Claiming = TypeVar("Claiming", ClaimJobs, ClaimOneByOne)

Ask: TypeAlias = Callable[[MessageBus], Callable[[], None]]
"""Asks a bus for something that takes time, and returns what is to be done in the loop with the answer."""

Claimer: TypeAlias = Callable[[Ask], None]
"""Calls what it is given, here or elsewhere, and what that returns in the loop."""

_EXPIRED_AT_ONCE = 100
_REPORTED_AT_ONCE = 500
_REPORT_SECONDS = 1.0
# How often to say that jobs are passed over.
_COMPLAINT_SECONDS = 60.0
# How often to ask for requested cancels, and how long a run has gone on before it is asked for: most end sooner.
_CANCEL_SECONDS = 1.0


class Exchange:
    """Every method but `due_at`, `hold_off` and `sign_off` may raise DatabaseError.

    `hungry` is whether there may be work to claim before the next poll, `asked` how many jobs may come by claims that
    are not answered.
    """

    def __init__(
        self,
        *,
        worker_id: UUID,
        name: str,
        jobs: JobRegistry,
        settings: WorkerSettings,
        bus: MessageBus,
        clock: Clock,
        runs: Runs,
        claimer: Claimer,
        claims_at_once: int,
    ) -> None:
        self.hungry = True
        self._worker_id = worker_id
        self._name = name
        self._jobs = jobs
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._runs = runs
        self._claimer = claimer
        self._claims_at_once = claims_at_once
        self._scope = System(
            actor=name, reason="a worker runs jobs of every organisation", source=f"worker {worker_id}"
        )
        self._log = logging.getLogger("heimdex.worker")
        now = clock.monotonic()
        self._renewal = Timer(settings.renew.total_seconds(), now + settings.renew.total_seconds())
        self._reporting = Timer(_REPORT_SECONDS, now)
        self._cancels = Timer(_CANCEL_SECONDS, now)
        self._sweep = Timer(settings.sweep.total_seconds(), now)
        # Up to which id the sweep under way has looked: rows that cannot be written must not hide those behind them.
        self._swept_to: UUID | None = None
        self._poll = Timer(settings.poll.total_seconds(), now)
        self._complaints = Timer(_COMPLAINT_SECONDS, now)
        # Commands whose commit has an unknown outcome: what each would have written, and what to do if it was.
        self._doubts: list[tuple[Draft, Callable[[], None]]] = []
        self.asked = 0
        # Claims that have been asked for and not been answered, and what the last one failed with.
        self._claims = 0
        self._failure: Exception | None = None
        # Whether the last claim has found anything, and whether all that it asked for.
        self._found = self._filled = False

    @property
    def unsettled(self) -> bool:
        """Whether something is not yet written, or not known to be."""
        return bool(self._doubts) or self._runs.unwritten > 0

    @property
    def claiming(self) -> bool:
        """Whether a claim has not been answered."""
        return self._claims > 0

    @property
    def idle(self) -> bool:
        """Whether nothing is held, nothing is unwritten, and the last claim has found nothing."""
        return not (self._found or self._runs.held or self.unsettled)

    def due_at(self, now: float, room: int) -> float:
        """Return when there is something to do for the database, with so much room for jobs."""
        if self.unsettled or self._failure is not None:
            return now
        due_at = [self._renewal.due_at, self._sweep.due_at]
        if room > 0:
            due_at.append(self._claim_due_at(now))
        if self._runs.held:
            due_at += [self._reporting.due_at, self._cancels.due_at]
        return min(due_at)

    def _claim_due_at(self, now: float) -> float:
        if self._claims:
            return now if self._filled and self._claims < self._claims_at_once else math.inf
        return now if self.hungry else self._poll.due_at

    def hold_off(self, until: float) -> None:
        """Leave expired leases alone: whoever holds them could not say so while the database was away."""
        self._sweep.postpone(until)

    def renew(self) -> None:
        """Renew what nobody else has renewed in time, and find out what was lost."""
        now = self._clock.monotonic()
        if not self._renewal.is_due(now):
            return
        if due := self._runs.due_for_renewal(self._renewal.every, now):
            kept = self._bus.handle(RenewLeases(scope=self._scope, holds=due, lease=self._settings.lease))
            self._runs.prolong(kept, now)
            self._runs.lose([self._runs.held[hold] for hold in due if hold not in kept])
        self._renewal.restart(self._runs.renewed_first(now))

    def settle(self) -> None:
        """Find out what became of a commit whose outcome was unknown, so that nothing is said or asked for twice."""
        while self._doubts:
            draft, take = self._doubts[0]
            if draft.jobs:
                was_committed = self._bus.handle(WasCommitted(scope=self._scope, job=draft.jobs[0]))
                if was_committed:
                    take()
            del self._doubts[0]

    def report(self) -> None:
        now = self._clock.monotonic()
        if self._reporting.is_due(now):
            self._runs.collect_reports()
            self._reporting.restart(now)
        at_once = _REPORTED_AT_ONCE
        while some := self._runs.reports[:at_once]:
            self.renew()
            forget = partial(self._runs.forget_reports, len(some))
            try:
                self._send(ReportJobs(scope=self._scope, reports=some), forget)
            except OF_ONE_ROW as error:
                if len(some) > 1:
                    at_once = 1
                    continue
                # It would be rejected at every try, and nothing else would ever be written.
                self._log.error("a report of job %s was rejected and is lost: %s", some[0].hold.job_id, error)
            forget()

    def finish(self) -> None:
        at_once = self._settings.batch
        while some := self._runs.endings[:at_once]:
            self.renew()
            forget = partial(self._runs.forget_endings, len(some))
            try:
                written = self._send(FinishJobs(scope=self._scope, endings=some), forget)
            except OF_ONE_ROW as error:
                if len(some) > 1:
                    at_once = 1
                    continue
                self._log.error("job %s cannot be ended, so its lease will run out: %s", some[0].job.id, error)
            else:
                for refusal in written.refusals:
                    self._log.warning("job %s was no longer held: its end was refused and recorded", refusal.job_id)
            forget()

    def find_cancels(self) -> None:
        now = self._clock.monotonic()
        if not self._cancels.is_due(now):
            return
        if holds := self._runs.cancelable(now - _CANCEL_SECONDS):
            self._runs.cancel(self._bus.handle(FindCancelRequests(scope=self._scope, holds=holds)))
        self._cancels.restart(now)

    def expire(self) -> None:
        now = self._clock.monotonic()
        if not self._sweep.is_due(now):
            return
        if self._swept_to is None:
            self._mark_seen()
            answered_at = self._clock.monotonic()
            if answered_at - now > self._renewal.every:
                # Somebody kept others from writing: a holder's renewal may have waited as this has, and goes first.
                self.hold_off(answered_at + self._renewal.every)
                return
        page = self._expire_after(self._swept_to)
        for job in page.jobs:
            self._log.warning("job %s was left by its worker and is now %s", job.id, job.status)
        looked_at = [job.id for job in page.jobs] + list(page.passed_over)
        if len(looked_at) == _EXPIRED_AT_ONCE:
            self._swept_to = max(looked_at)
        else:
            self._swept_to = None
            self._sweep.restart(now)

    def claim(self, room: int) -> None:
        """Ask for jobs, and once more while the answer is awaited if there are likely to be more.

        Raises:
            Exception: what the last claim failed with, or this one where it is answered at once.
        """
        now = self._clock.monotonic()
        if self._failure is None and room and self._claim_due_at(now) <= now:
            # A wake-up from here on is of something that this claim may not see.
            self.hungry = False
            self._claims += 1
            self.asked += room
            self._claimer(partial(self._ask_for_jobs, room))
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def sign_off(self) -> None:
        """Remove this worker from those on record."""
        try:
            self._bus.handle(MarkWorkerGone(scope=self._scope, worker=self._worker_id))
        except HeimdexError as error:
            self._log.warning("this worker stays on record until it is seen as dead: %s", error)

    def _mark_seen(self) -> None:
        self._bus.handle(
            MarkWorkerSeen(
                scope=self._scope,
                worker=self._worker_id,
                name=self._name,
                types=self._jobs.types,
                queues=self._settings.queues or frozenset(),
            )
        )

    def _expire_after(self, after: UUID | None) -> OneByOne:
        try:
            expired = self._bus.handle(ExpireLeases(scope=self._scope, limit=_EXPIRED_AT_ONCE, after=after))
        except OF_ONE_ROW as error:
            answer = self._bus.handle(ExpireOneByOne(scope=self._scope, limit=_EXPIRED_AT_ONCE, after=after))
            self._pass_over(answer, error)
            return answer
        return OneByOne(tuple(expired), ())

    # Wherever the claimer runs it

    def _ask_for_jobs(self, room: int, bus: MessageBus) -> Callable[[], None]:
        """Claim, and return what is to be done in the loop. Touches nothing that the loop may change."""
        # Not when it was asked for: it may have waited for another one, and the leases begin now.
        draft, now = Draft(), self._clock.monotonic()
        try:
            bus.handle(self._claim_command(ClaimJobs, room, draft))
        except OF_ONE_ROW as error:
            return self._ask_one_by_one(room, now, error, bus)
        except Exception as error:  # noqa: BLE001 - it is raised in the loop
            return partial(self._fail, draft, room, now, error)
        return partial(self._answer, draft, room, now)

    def _ask_one_by_one(self, room: int, now: float, cause: HeimdexError, bus: MessageBus) -> Callable[[], None]:
        draft = Draft()
        try:
            answer = bus.handle(self._claim_command(ClaimOneByOne, room, draft))
        except Exception as error:  # noqa: BLE001 - as above
            return partial(self._fail, draft, room, now, error)
        return partial(self._answer, draft, room, now, passed_over=(answer, cause))

    def _claim_command(self, command: type[Claiming], room: int, draft: Draft) -> Claiming:
        return command(
            scope=self._scope,
            draft=draft,
            worker=self._worker_id,
            types=self._jobs.types,
            lease=self._settings.lease,
            limit=room,
            queues=self._settings.queues,
        )

    # In the loop again

    def _answer(
        self, draft: Draft, room: int, now: float, passed_over: tuple[OneByOne, HeimdexError] | None = None
    ) -> None:
        self._hear(room)
        self._found, self._filled = bool(draft.jobs), len(draft.jobs) >= room
        self._take(draft, now)
        if passed_over is not None:
            self._pass_over(*passed_over)
        self.hungry = self.hungry or self._found
        self._poll.restart(now)

    def _fail(self, draft: Draft, room: int, now: float, error: Exception) -> None:
        self._hear(room)
        self.hungry, self._filled, self._failure = True, False, error
        if isinstance(error, CommitOutcomeUnknown):
            self._doubts.append((draft, partial(self._take, draft, now)))

    def _hear(self, room: int) -> None:
        self._claims -= 1
        self.asked -= room

    def _take(self, draft: Draft, now: float) -> None:
        # A claim that was in doubt may be older than what the next renewal was reckoned from.
        self._renewal.due_at = min(self._renewal.due_at, now + self._renewal.every)
        for job in draft.jobs:
            self._runs.add(job, lease_ends=now + self._settings.lease.total_seconds(), claimed_at=now)

    def _send(self, command: DraftedCommand[Answer], take: Callable[[], None]) -> Answer:
        """Run a command; when nobody knows whether it was committed, keep what is to be done if it was."""
        try:
            return self._bus.handle(command)
        except CommitOutcomeUnknown:
            self._doubts.append((command.draft, take))
            raise

    def _pass_over(self, answer: OneByOne, error: HeimdexError) -> None:
        now = self._clock.monotonic()
        if answer.passed_over and self._complaints.is_due(now):
            ids = ", ".join(map(str, answer.passed_over))
            self._log.error(
                "%d jobs cannot be written and are passed over: %s (%s)", len(answer.passed_over), shown(ids), error
            )
            self._complaints.restart(now)
