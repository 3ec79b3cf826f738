"""What one worker holds: its runs, the functions that outlive theirs, and what is not yet written.

Only the worker's loop calls this. What a run shares with the thread of its function is in `Run`.
"""

import logging
import math
from collections.abc import Collection, Iterable
from datetime import timedelta
from itertools import takewhile

from attrs import define, field

from heimdex.domain.errors import shown
from heimdex.domain.job import Hold, Job
from heimdex.domain.outcomes import Fail, Outcome, Release, Snooze
from heimdex.domain.results import Ending, Report
from heimdex.service_layer.ports import NoRenewer, Renewer
from heimdex.service_layer.run import AS_REQUESTED, Run

WAITING_SECONDS = 10.0
"""What waits here for a slot longer than that is given back."""

STOPPING = Release("the worker stops")
NOT_STARTED = Release("its lease ran out before it was started")
STOOD_STILL = Release("the worker stood still before it was started")
WAITED = Release("it waited for jobs that take longer than expected")
# A suspect is the first to be claimed again: so that others get their turn, not before this.
SUSPECT_WAITED = Snooze(timedelta(minutes=1))


@define(eq=False)
class Runs:
    _lease: float
    _renewer: Renewer = field(factory=NoRenewer)
    # By hold, since the same job may be claimed again before its first run here is known to be lost.
    held: dict[Hold, Run] = field(factory=dict, init=False)
    # Those of them that wait to be given to the runner, in the order of their claims.
    _waiting: list[Run] = field(factory=list, init=False)
    _suspects: int = field(default=0, init=False)
    # Before that moment no deadline passes and no lease ends.
    look_at: float = field(default=math.inf, init=False)
    # Functions that go on after their hold has ended: each takes a slot until it returns.
    stuck: list[Run] = field(factory=list, init=False)
    endings: list[Ending] = field(factory=list, init=False)
    # Of what has ended, in the same order.
    _ended: list[Hold] = field(factory=list, init=False)
    reports: list[Report] = field(factory=list, init=False)
    _log: logging.Logger = field(factory=lambda: logging.getLogger("heimdex.worker"), init=False)

    @property
    def unwritten(self) -> int:
        return len(self.endings) + len(self.reports)

    @property
    def with_suspect(self) -> bool:
        return self._suspects > 0

    def busy(self, since: float) -> int:
        """Return how many slots are taken by functions that have run since then, or longer."""
        # They start in the order in which they were claimed, but for suspects, which run alone.
        started = takewhile(_has_started, self.held.values())
        return sum(run.started_at is not None and run.started_at <= since for run in started) + len(self.stuck)

    def add(self, job: Job, *, lease_ends: float, claimed_at: float) -> None:
        run = Run.of(job, lease_ends=lease_ends, claimed_at=claimed_at)
        self.held[run.hold] = run
        self._waiting.append(run)
        self._suspects += run.suspect
        self.look_at = min(self.look_at, lease_ends, claimed_at + run.timeout)
        # If this loop hangs from now on, the lease runs out once it would have ended the run. It may have waited for a
        # slot until the second time that those which wait are looked at.
        self._renewer.add(run.hold, until=lease_ends + 2 * WAITING_SECONDS + run.timeout)

    def due_for_renewal(self, every: float, now: float) -> list[Hold]:
        """Return the holds to renew so that no renewal gets older than `every`: none while the renewer keeps up.

        Those that would be due soon are renewed with the first, so that they are few statements.
        """
        for run in self.held.values():
            self._see_renewal(run)
        if self.renewed_first(now) + every > now:
            return []
        return [hold for hold, run in self.held.items() if run.lease_ends - self._lease + every / 2 <= now]

    def renewed_first(self, now: float) -> float:
        """Return when the hold was renewed or claimed for which that was longest ago; now if there is none."""
        return min((run.lease_ends - self._lease for run in self.held.values()), default=now)

    def prolong(self, holds: Iterable[Hold], asked_at: float) -> None:
        """Take in that leases were renewed by the loop.

        Each is counted from when it was asked for: the database's lease runs at least so long.
        """
        for hold in holds:
            self.held[hold].lease_ends = asked_at + self._lease

    def cancelable(self, since: float) -> list[Hold]:
        """Return the holds that began then or before and that nobody is known to want canceled."""
        return [hold for hold, run in self.held.items() if run.claimed_at <= since and not run.cancel_requested]

    def to_submit(self, now: float) -> list[Run]:
        """Return the runs to be given to the runner now.

        A suspect is one once it is the only run here and nothing is unwritten: it may end this process.
        """
        if not self._waiting:
            return []
        # What was given back meanwhile is no longer held.
        waiting = [run for run in self._waiting if run.held]
        # A claim that was in doubt may be known only when its lease has ended.
        alone = len(self.held) == 1 and not self.unwritten
        ready = [run for run in waiting if now < run.lease_ends and (alone or not run.suspect)]
        self._waiting = [run for run in waiting if run not in ready] if len(ready) < len(waiting) else []
        return ready

    def take_back(self, run: Run, outcome: Outcome) -> None:
        """Take in that the function of a run has returned. If its hold has ended before, only the slot comes back."""
        if run.held:
            self._end(run, outcome)
        else:
            self.stuck.remove(run)

    def collect_reports(self) -> None:
        """Take in what runs have to say. While there is something unwritten it stays with them, where it is bounded."""
        if self.reports:
            return
        for run in self.held.values():
            self.reports += run.unwritten_reports()

    def forget_reports(self, count: int) -> None:
        del self.reports[:count]

    def forget_endings(self, count: int) -> None:
        # Until now: the loop may be kept from writing an end for longer than a lease.
        for hold in self._ended[:count]:
            self._renewer.remove(hold)
        del self.endings[:count], self._ended[:count]

    def end_overdue(self, now: float) -> None:
        """End the runs that have used up their timeout, and those whose lease has ended by the worker's own clock."""
        if now < self.look_at:
            return
        lost = []
        for run in list(self.held.values()):
            if run.deadline is not None and now >= run.deadline:
                self._leave(run)
                self._end(run, Fail("timeout", f"it ran longer than {run.job.timeout}"))
            elif now >= run.lease_ends and now >= self._see_renewal(run):
                lost.append(run)
        self.give_back(lost, NOT_STARTED)
        self.lose([run for run in lost if run.held])
        self.look_at = min((_next_look(run, now) for run in self.held.values()), default=math.inf)

    def lose(self, runs: Collection[Run]) -> None:
        """Let go of runs whose jobs may be somebody else's; whoever holds a job decides what becomes of it."""
        for run in runs:
            self._leave(run)
            self._let_go(run)
            self._renewer.remove(run.hold)
        if runs:
            ids = ", ".join(str(run.job.id) for run in runs)
            self._log.warning("lost the leases of %d jobs: %s", len(runs), shown(ids))

    def cancel(self, holds: Collection[Hold]) -> None:
        """Tell the functions of these runs that they are no longer wanted; end the runs that have not started."""
        runs = [self.held[hold] for hold in holds]
        self.give_back(runs, AS_REQUESTED)
        for run in runs:
            run.cancel_requested = True
            run.interrupt()

    def give_back(self, runs: Iterable[Run], outcome: Outcome) -> None:
        """End those of the runs that have not started."""
        for run in list(runs):
            if run.take_turn():
                self._end(run, outcome)
                run.interrupt()

    def give_back_waiting(self) -> None:
        """Give back what has waited here since this was called last: another worker may have a slot."""
        waited = [run for run in self.held.values() if run.waits]
        self.give_back([run for run in waited if run.suspect], SUSPECT_WAITED)
        self.give_back([run for run in waited if not run.suspect], WAITED)
        for run in self.held.values():
            run.waits = True

    def stop(self) -> None:
        """End every run, started or not."""
        for run in list(self.held.values()):
            self._leave(run)
            self._end(run, STOPPING)

    def _see_renewal(self, run: Run) -> float:
        """Take over what the renewer did for a run; return when its lease ends."""
        renewed_at = self._renewer.renewed_at(run.hold)
        if renewed_at is not None:
            run.lease_ends = max(run.lease_ends, renewed_at + self._lease)
        return run.lease_ends

    def _end(self, run: Run, outcome: Outcome) -> None:
        """Keep what became of a run until it is written."""
        self._let_go(run)
        if run.notes:
            self.reports += run.unwritten_notes()
        self.endings.append(run.ending(outcome))
        self._ended.append(run.hold)

    def _let_go(self, run: Run) -> None:
        # From now on its function may write nothing.
        run.held = False
        self._suspects -= run.suspect
        del self.held[run.hold]

    def _leave(self, run: Run) -> None:
        """Part from the function of a run, whether it has started or never will."""
        if not run.take_turn():
            self.stuck.append(run)
        # Before it is told: what it does then to clean up is too late to be written.
        run.held = False
        run.interrupt()


def _has_started(run: Run) -> bool:
    return run.started_at is not None or run.suspect


def _next_look(run: Run, now: float) -> float:
    """Return a moment before which this run needs no look: if it starts after now, it may run for its timeout."""
    return min(run.lease_ends, now + run.timeout if run.deadline is None else run.deadline)
