"""One claimed job on its way through a worker, and what its function made so far."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from attrs import define, field

from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import CancelRequested, InvalidInput, LeaseLost
from heimdex.domain.job import Hold, Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Cancel, Outcome, Progress, Succeed
from heimdex.domain.results import Effects, Ending, Note, Report

Entry: TypeAlias = Progress | Note

AS_REQUESTED = Cancel("its cancel was requested")


def _nothing() -> None:
    pass


@define(eq=False)
class Run:
    """What the worker's loop and the function's thread share; each attribute says who writes it.

    The thread of an async function is that of the event loop.
    """

    job: Job
    hold: Hold
    # The worker's monotonic time at which the lease ends unless it is renewed. Written by the loop.
    lease_ends: float
    # Whether it has been looked at as one of those that wait. Written by the loop.
    waits: bool = False
    # Monotonic time. Written by the loop.
    claimed_at: float = 0.0
    # Makes an async function stop where it awaits; a plain one cannot be stopped. Written by the loop.
    interrupt: Callable[[], None] = _nothing
    # Whether somebody wants the job canceled. Written by the loop.
    cancel_requested: bool = False
    # Monotonic time. Written by the thread.
    started_at: float | None = None
    # Whether the function may still write: cleared by the loop when the hold has ended.
    held: bool = True
    # The last progress, and the notes not yet written. Added by the thread, taken by the loop.
    progress: Progress | None = None
    notes: "deque[Note]" = field(factory=deque)
    # Written by the thread, read by the loop once the function has returned. Assets by their uri.
    assets: dict[str, NewAsset] = field(factory=dict)
    children: list[NewJob] = field(factory=list)
    # Whoever takes the turn decides: the thread that starts the function, or the loop that gives the job back.
    _turn: list[None] = field(factory=lambda: [None], init=False)
    _written: Progress | None = field(default=None, init=False)
    # Of the job, whose own attributes are slow to read where its class is mapped.
    type: str = ""
    timeout: float = 0.0
    suspect: bool = False

    @classmethod
    def of(cls, job: Job, *, lease_ends: float, claimed_at: float = 0.0) -> "Run":
        """Return the run of a job as its claim returned it."""
        columns = vars(job)
        if columns["lease_seq"] is None:
            raise InvalidInput("job", str(job.id), "give a job as its claim returned it")
        return cls(
            job,
            Hold(columns["id"], columns["lease_seq"]),
            lease_ends,
            claimed_at=claimed_at,
            type=columns["type"],
            timeout=columns["timeout"].total_seconds(),
            suspect=columns["crashes"] > 0,
        )

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which it has run for its timeout; None before it has started."""
        return None if self.started_at is None else self.started_at + self.timeout

    def take_turn(self) -> bool:
        """Return True to the first who asks, in whatever thread."""
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def check_held(self) -> None:
        if not self.held:
            raise LeaseLost(self.hold.job_id, self.hold.lease_seq)

    def check_wanted(self) -> None:
        self.check_held()
        if self.cancel_requested:
            raise CancelRequested(self.hold.job_id)

    def unwritten_reports(self) -> list[Report]:
        progress = self.unwritten_progress()
        return self.unwritten_notes() + ([] if progress is None else [Report(self.hold, progress)])

    def unwritten_notes(self) -> list[Report]:
        return [Report(self.hold, self.notes.popleft()) for _ in range(len(self.notes))]

    def unwritten_progress(self) -> Progress | None:
        """Return the last progress unless it was returned before; what came between two calls is left out."""
        last = self.progress
        if last is self._written:
            return None
        self._written = last
        return last

    def ending(self, outcome: Outcome) -> Ending:
        """Return the end of this run; what its function made belongs to it only when it is a success."""
        if not isinstance(outcome, Succeed) or not (self.assets or self.children):
            return Ending(self.job, outcome, self.unwritten_progress())
        effects = Effects(tuple(self.assets.values()), tuple(self.children))
        return Ending(self.job, outcome, self.unwritten_progress(), effects)
