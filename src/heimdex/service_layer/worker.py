"""The worker: one loop that claims, runs and finishes, and waits in one place.

It owns no thread, no lock and no sleep: code runs through the Runner port, and whatever happens elsewhere comes in
through the inbox. So a simulator can drive it step by step.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

from attrs import field, frozen

from heimdex.domain.commands import CreateChildren
from heimdex.domain.errors import DatabaseError, HeimdexError
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Outcome
from heimdex.domain.results import Created
from heimdex.domain.scope import Tenant
from heimdex.service_layer.exchange import Ask, Exchange
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry, RegisteredJob
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.pace import SECONDS_AHEAD, Pace, Timer, WorkerSettings
from heimdex.service_layer.ports import Clock, Inbox, NoRenewer, Renewer, Runner, Wakeups
from heimdex.service_layer.run import Run
from heimdex.service_layer.running import run_async_function, run_function
from heimdex.service_layer.runs import STOOD_STILL, STOPPING, WAITED, WAITING_SECONDS, Runs

NO_SLOT_LEFT = 1

_AT_ONCE = timedelta(0)
# The second waits while the first is answered, so that the ledger need not wait for this loop.
_CLAIMS_BESIDE = 2
# After a failure of the database nothing is asked of it for so long.
_TROUBLE_SECONDS = 1.0
# What could not be written so long after the grace is left to the reaper of another worker.
_LAST_SECONDS = 2.0
_UNANSWERED = "a claim was not answered; if it has taken jobs, their leases will run out"


@frozen
class Beside:
    """Where a worker claims while its loop writes: through a connection of its own, one claim after the other."""

    bus: MessageBus
    runner: Runner


@frozen(kw_only=True)
class WorkerTools:
    """What a worker needs from outside.

    Args:
        bus: tries each command once: the loop tries again by itself, and renews meanwhile.
        patient_bus: for what job functions ask for: it may wait and try again.
        beside: None where one writer waits for the other anyway: then the loop claims, too.
        close: gives up what was reserved for this worker.
    """

    bus: MessageBus
    patient_bus: MessageBus
    clock: Clock
    inbox: Inbox
    runner: Runner
    wakeups: Wakeups
    renewer: Renewer = field(factory=NoRenewer)
    beside: Beside | None = None
    close: Callable[[], None] = lambda: None


class Worker:
    """Runs jobs of every organisation until it is stopped. `worker_id` is new at every start."""

    def __init__(
        self, worker_id: UUID, name: str, jobs: JobRegistry, settings: WorkerSettings, tools: WorkerTools
    ) -> None:
        self.id = worker_id
        self.name = name
        self.stopped = False
        self.exit_code = 0
        self._log = logging.getLogger("heimdex.worker")
        self._jobs = jobs
        self._settings = settings
        self._tools = tools
        self._runs = Runs(settings.lease.total_seconds(), tools.renewer)
        claims = 1 if tools.beside is None else _CLAIMS_BESIDE
        self._pace = Pace(slots=tools.runner.slots, most=max(settings.batch, tools.runner.slots), claims=claims)
        self._exchange = Exchange(
            worker_id=worker_id,
            name=name,
            jobs=jobs,
            settings=settings,
            bus=tools.bus,
            clock=tools.clock,
            runs=self._runs,
            claimer=self._ask,
            claims_at_once=claims,
        )
        # What has returned and not been taken back, and whether the loop has been told that there is some.
        self._returned: deque[tuple[Run, Outcome, float]] = deque()
        self._told = False
        now = tools.clock.monotonic()
        self._waiting = Timer(WAITING_SECONDS, now + WAITING_SECONDS)
        self._quiet_until = now
        self._stop_at: float | None = None
        self._no_slot_since: float | None = None
        self._closed = False
        self._unsubscribe = tools.wakeups.subscribe(self._wake, settings.queues)

    def run(self, look: Callable[[], object] = lambda: None) -> int:
        """Work until stopped; return the exit code: 0, or 1 when every slot was taken by a function that hangs.

        Args:
            look: called between steps, in this thread.
        """
        try:
            while not self.stopped:
                self.step()
                look()
        finally:
            if not self.stopped:
                self._leave()
            self.close()
        return self.exit_code

    def stop(self) -> None:
        """Ask the worker to stop: running jobs get the grace, all others are given back. A second time ends the grace.

        May be called from any thread and from a signal handler.
        """
        self._tools.inbox.put(self._begin_to_stop)

    def step(self) -> None:
        """Wait until there is something to do, at most until the next thing is due, and do it.

        An error that nobody foresaw ends the worker; what it holds is given back first.
        """
        try:
            self._step()
        except Exception:
            self._leave()
            raise

    def close(self) -> None:
        """Leave: take no more wake-ups and no more work, and remove this worker from those on record."""
        if self._closed:
            return
        self._closed = True
        self._unsubscribe()
        self._tools.runner.close()
        if self._tools.beside is not None:
            self._tools.beside.runner.close()
        self._tools.renewer.close()
        self._exchange.sign_off()
        self._tools.close()

    def _step(self) -> None:
        inbox = self._tools.inbox
        message = inbox.get(self._patience())
        if message is not None:
            message()
        self._take_messages()
        self._end_overdue()
        # Before the loop waits for the ledger, and after it for what that brings.
        self._start()
        self._talk_to_the_ledger()
        self._start()
        self._see_whether_to_end()

    # What comes in through the inbox

    def _take_messages(self) -> None:
        while (message := self._tools.inbox.get(_AT_ONCE)) is not None:
            message()

    def _wake(self) -> None:
        self._tools.inbox.put(self._become_hungry)

    def _become_hungry(self) -> None:
        self._exchange.hungry = True

    def _begin_to_stop(self) -> None:
        grace = _AT_ONCE if self._stop_at is not None else self._settings.grace
        self._stop_at = self._now() + grace.total_seconds()
        self._runs.give_back(self._runs.held.values(), STOPPING)

    def _take_returned(self) -> None:
        # Before the first look: what comes after the last one tells the loop again.
        self._told = False
        while self._returned:
            run, outcome, seconds = self._returned.popleft()
            self._pace.observe(seconds)
            self._runs.take_back(run, outcome)

    # Runs

    def _start(self) -> None:
        if self._stop_at is not None:
            # Claimed before the stop, and known only since: the outcome of the commit was unknown.
            self._runs.give_back(self._runs.held.values(), STOPPING)
        runner, plain = self._tools.runner, list[Callable[[], None]]()
        for run in self._runs.to_submit(self._now()):
            registered = self._jobs.get(run.type)
            if registered.is_async:
                runner.submit(*plain)
                plain.clear()
                run.interrupt = runner.submit_async(partial(self._work_async, registered, run))
            else:
                plain.append(partial(self._work, registered, run))
        runner.submit(*plain)

    # What runs outside the loop

    def _work(self, registered: RegisteredJob, run: Run) -> None:
        began = self._may_begin(run)
        if began is not None:
            outcome = run_function(registered, run.job.payload_json, self._context(run))
            self._return(run, outcome, self._now() - began)

    async def _work_async(self, registered: RegisteredJob, run: Run) -> None:
        began = self._may_begin(run)
        if began is not None:
            outcome = await run_async_function(registered, run.job.payload_json, self._context(run))
            self._return(run, outcome, self._now() - began)

    def _return(self, run: Run, outcome: Outcome, seconds: float) -> None:
        self._returned.append((run, outcome, seconds))
        if not self._told:
            self._told = True
            self._tools.inbox.put(self._take_returned)

    def _may_begin(self, run: Run) -> float | None:
        """Return when the function of a run begins, by the monotonic clock; None if it must not."""
        if not run.take_turn():
            return None
        now = self._now()
        if now >= run.lease_ends:
            # This process stood still before it came to it, and somebody else may have the job by now.
            self._tools.inbox.put(partial(self._runs.take_back, run, STOOD_STILL))
            return None
        run.started_at = now
        return now

    def _context(self, run: Run) -> JobContext:
        return JobContext(run, partial(self._create_children, run), self._jobs.checked)

    def _create_children(self, run: Run, new_jobs: Sequence[NewJob]) -> Sequence[Created]:
        job = run.job
        scope = Tenant(job.org_id, actor=job.requested_by, source=f"job {job.id}")
        command = CreateChildren(scope=scope, parent=job, new_jobs=new_jobs, lease=self._settings.lease)
        return self._tools.patient_bus.handle(command)

    # Claims

    def _ask(self, ask: Ask) -> None:
        beside = self._tools.beside
        # With nothing to do but this, a job starts sooner without a change of threads.
        if beside is None or self._exchange.idle:
            ask(self._tools.bus)()
        else:
            beside.runner.submit(lambda: self._tools.inbox.put(ask(beside.bus)))

    # What should have ended

    def _end_overdue(self) -> None:
        now = self._now()
        self._runs.end_overdue(now)
        if self._waiting.is_due(now):
            self._runs.give_back_waiting()
            self._waiting.restart(now)
        if self._stop_at is None:
            self._look_for_slots(now)
        elif now >= self._stop_at:
            self._runs.stop()

    def _look_for_slots(self, now: float) -> None:
        """End this worker when for the length of a grace every slot was taken by a function that should have ended."""
        if len(self._runs.stuck) < self._tools.runner.slots:
            self._no_slot_since = None
        elif self._no_slot_since is None:
            self._no_slot_since = now
            self._runs.give_back(self._runs.held.values(), WAITED)
        elif now >= self._no_slot_since + self._settings.grace.total_seconds():
            self._log.critical("every slot is taken by a job function that does not return: this worker ends")
            self.exit_code = NO_SLOT_LEFT
            self._stop_at = now

    # The ledger

    def _talk_to_the_ledger(self) -> None:
        """Tell what is new, and ask for what is due. What fails is tried again later."""
        if self._now() < self._quiet_until:
            return
        duties: tuple[Callable[[], None], ...] = (
            # First, since the others may wait for a lock that somebody else has.
            self._exchange.renew,
            self._exchange.settle,
            self._claim_beside,
            self._exchange.report,
            self._exchange.finish,
            self._exchange.find_cancels,
            self._exchange.expire,
            self._claim,
        )
        for duty in duties:
            try:
                duty()
            except DatabaseError as error:
                self._log.warning("the database failed, trying again: %s", error)
                self._be_quiet()
                self._exchange.hold_off(self._quiet_until + _TROUBLE_SECONDS)
                return
            except HeimdexError:
                # The fault of some row, or ours. The other duties go on, or every lease here would be lost.
                self._log.exception("the ledger refused what this worker asked for, trying again")
                self._be_quiet()

    def _claim_beside(self) -> None:
        """Ask for jobs now if that does not keep the loop from writing."""
        if self._tools.beside is not None and not self._exchange.idle:
            self._exchange.claim(self._room())

    def _claim(self) -> None:
        # The others may have taken long, and after a stop that came meanwhile nothing may be claimed.
        self._take_messages()
        self._exchange.claim(self._room())

    def _be_quiet(self) -> None:
        self._quiet_until = self._now() + _TROUBLE_SECONDS

    def _leave(self) -> None:
        """Give back what is held, as well as it can be done."""
        self._await_claim()
        # The error that ends this worker is the one to be told.
        with suppress(Exception):
            # First, since it may bring jobs.
            self._exchange.settle()
        self._runs.stop()
        try:
            self._exchange.report()
            self._exchange.finish()
        except Exception:  # noqa: BLE001 - the error that ends this worker is the one to be told
            self._log.exception("%d ends could not be written; their leases will run out", len(self._runs.endings))
        self.stopped = True

    def _await_claim(self) -> None:
        until = self._now() + _LAST_SECONDS
        while self._exchange.claiming and (left := until - self._now()) > 0:
            message = self._tools.inbox.get(timedelta(seconds=left))
            if message is not None:
                with suppress(Exception):
                    message()
        if self._exchange.claiming:
            self._log.error(_UNANSWERED)

    def _room(self) -> int:
        """Return how many jobs to claim now. Beside a suspect, none: it runs alone."""
        if self._stop_at is not None or self._runs.with_suspect:
            return 0
        busy = self._runs.busy(self._now() - SECONDS_AHEAD)
        held = len(self._runs.held) + len(self._runs.stuck) + self._exchange.asked
        return self._pace.room(held - busy, busy)

    # Time

    def _now(self) -> float:
        return self._tools.clock.monotonic()

    def _patience(self) -> timedelta:
        """Return how long to wait for something to come in, in whole milliseconds: a shorter wait would be none."""
        now = self._now()
        moments = [max(self._exchange.due_at(now, self._room()), self._quiet_until), self._runs.look_at]
        if self._stop_at is not None:
            moments.append(self._stop_at if self._runs.held else self._stop_at + _LAST_SECONDS)
        elif self._no_slot_since is not None:
            moments.append(self._no_slot_since + self._settings.grace.total_seconds())
        return timedelta(milliseconds=max(math.ceil((min(moments) - now) * 1000), 0))

    def _see_whether_to_end(self) -> None:
        if self._stop_at is None or self._runs.held:
            return
        if self._exchange.unsettled or self._exchange.claiming:
            if self._now() < self._stop_at + _LAST_SECONDS:
                return
            if self._exchange.claiming:
                self._log.error(_UNANSWERED)
            if self._exchange.unsettled:
                unwritten = self._runs.unwritten
                self._log.error("%d ends and reports could not be written; their leases will run out", unwritten)
        self.stopped = True
