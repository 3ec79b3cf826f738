"""From where claims look: lower bounds below which a process knows of no job that is due and free.

While somebody holds a snapshot, PostgreSQL keeps the index entries of all jobs that were claimed since, and a claim
that looks from the start walks over each of them; so it does over jobs of other types and of paused queues. Where that
costs little, every claim looks from the start. Where it does not, claims look from a bound, and from the start only now
and then: see the decision record 0021.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TypeAlias
from uuid import UUID

from attrs import define, evolve, field, frozen

from heimdex.domain.job import Job
from heimdex.domain.transitions import Status

Position: TypeAlias = tuple[datetime, UUID]
"""A job's place among those of its priority: its `scheduled_at` and its id."""
Kind: TypeAlias = tuple[str | None, frozenset[str], frozenset[str] | None]
"""What a claim asks for: an organisation or all of them, types, queues or all of them."""

NOBODY = UUID(int=0)
START: Position = (datetime.min.replace(tzinfo=UTC), NOBODY)
_HIGHEST, _LOWEST = 32_767, -32_768

# So many index entries beside those of the jobs that were found cost less than a millisecond.
_TOLERATED = 2_000
# As long as a transaction of another process may take from a job's `scheduled_at` to its commit, and be seen at once.
_LAG = timedelta(seconds=2)
# Between two looks from the start, and for each entry that one walked over in vain: some fifty times what it took.
_REST_SECONDS, _REST_SECONDS_EACH = 1.0, 2e-5

_MOST_KINDS = 100
_MOST_RANGES = 200
_REMEMBERED = 1_000


@frozen
class Range:
    """The jobs whose priority is between two, both included, each priority from a position on."""

    top: int
    bottom: int
    since: Position


EVERYTHING = (Range(_HIGHEST, _LOWEST, START),)


@frozen
class Look:
    """A claim's look at the queue, before it is made.

    Args:
        ranges: where it looks, in the order of claims; together they have every priority.
        forgotten, lowered: how often all bounds had been forgotten, and one of them lowered, when it began.
    """

    kind: Kind
    ranges: Sequence[Range]
    forgotten: int
    lowered: int

    @property
    def from_start(self) -> bool:
        return self.ranges is EVERYTHING


@frozen
class Seen:
    """What a look has found.

    Args:
        at: the database's time of the look.
        priorities: of the jobs that were claimed, highest first.
        last: the position of the last of these, in the order of claims.
        to_the_end: it came to the end of what is due, and claimed all of it.
        in_vain: how many index entries it walked over beside those of the jobs that it found.
    """

    at: datetime
    priorities: Sequence[int]
    last: Position | None
    to_the_end: bool
    in_vain: int


@define
class _Known:
    """What is known for one kind of claim: its ranges, and when it next looks from the start."""

    ranges: Sequence[Range]
    rest: float
    rest_until: float


@define(kw_only=True)
class ClaimBounds:
    """The bounds of one process on one database. Its threads share them.

    Args:
        tolerated: so many entries in vain, by a look from the start, and no bounds are used.
        lag: no bound is used that is younger than this.
    """

    tolerated: int = _TOLERATED
    lag: timedelta = _LAG
    monotonic: Callable[[], float] = time.monotonic
    _known: dict[Kind, _Known] = field(factory=dict, init=False)
    _forgotten: int = field(default=0, init=False)
    _lowered: int = field(default=0, init=False)
    _latest: deque[tuple[int, Position]] = field(factory=lambda: deque(maxlen=_REMEMBERED), init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def look(self, kind: Kind) -> Look:
        """Return where a claim is to look."""
        with self._lock:
            return Look(kind, self._ranges(kind), self._forgotten, self._lowered)

    def _ranges(self, kind: Kind) -> Sequence[Range]:
        known, now = self._known.get(kind), self.monotonic()
        if known is None:
            return EVERYTHING
        if now > known.rest_until:
            # From now on, so that others do not look from the start as well.
            known.rest_until = now + known.rest
            return EVERYTHING
        return known.ranges

    def learn(self, look: Look, seen: Seen) -> None:
        """Move the bounds to where a look has been, now that what it claimed stays claimed."""
        with self._lock:
            missed = self._lowered - look.lowered
            if look.forgotten != self._forgotten or missed > len(self._latest):
                return
            known = self._known.pop(look.kind, None)
            if look.from_start:
                known = self._known_from_start(known, seen)
            if known is None:
                return
            ranges = _moved(known.ranges, seen, whole=look.from_start)
            for priority, position in list(self._latest)[len(self._latest) - missed :]:
                ranges = _lowered(ranges, priority, position)
            known.ranges = ranges
            self._keep(look.kind, known)

    def _known_from_start(self, known: _Known | None, seen: Seen) -> _Known | None:
        if seen.in_vain <= self.tolerated:
            return None
        rest = _REST_SECONDS + seen.in_vain * _REST_SECONDS_EACH
        return _Known(EVERYTHING if known is None else known.ranges, rest, self.monotonic() + rest)

    def _keep(self, kind: Kind, known: _Known) -> None:
        if len(known.ranges) <= _MOST_RANGES:
            self._known[kind] = known
        if len(self._known) > _MOST_KINDS:
            del self._known[next(iter(self._known))]

    def lower(self, priority: int, position: Position) -> None:
        """Let the next look see a position: a job has been put there."""
        with self._lock:
            self._lowered += 1
            self._latest.append((priority, position))
            for known in self._known.values():
                known.ranges = _lowered(known.ranges, priority, position)

    def forget(self) -> None:
        """Let the next look see everything: a job may be anywhere."""
        with self._lock:
            self._forgotten += 1
            self._known.clear()

    def start_anew(self) -> None:
        """Begin in a forked child: a thread that is not there may have held the lock."""
        self._lock = Lock()
        self.forget()


@define
class BoundsOfUnit:
    """What one unit of work does to the bounds, kept until its transaction has ended."""

    bounds: ClaimBounds
    _seen: list[tuple[Look, Seen]] = field(factory=list, init=False)
    _queued: dict[int, Position] = field(factory=dict, init=False)
    _resumed: bool = field(default=False, init=False)

    def saw(self, look: Look, seen: Seen) -> None:
        self._seen.append((look, seen))

    def wrote(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.status is Status.QUEUED:
                self.put(job.priority, (job.scheduled_at, job.id))

    def put(self, priority: int, position: Position) -> None:
        self._queued[priority] = min(position, self._queued.get(priority, position))

    def resumed(self) -> None:
        self._resumed = True

    def end(self, *, kept: bool) -> None:
        """Tell the bounds, once the transaction has ended.

        Args:
            kept: it was committed; without that it may have been, or may be later.
        """
        if self._resumed or (self._seen and not kept):
            # Others passed over what it had locked.
            self.bounds.forget()
        elif kept:
            for look, seen in self._seen:
                self.bounds.learn(look, seen)
        for priority, position in self._queued.items():
            self.bounds.lower(priority, position)
        self._seen, self._queued, self._resumed = [], {}, False


def _moved(ranges: Sequence[Range], seen: Seen, *, whole: bool) -> tuple[Range, ...]:
    """Return the ranges from where a look has been; a look from the start may move them back, too."""
    for priority in seen.priorities:
        ranges = tuple(part for each in ranges for part in _split(each, priority))
    last = seen.priorities[-1] if seen.priorities else _HIGHEST + 1
    moved = []
    for each in ranges:
        if seen.to_the_end or each.bottom > last:
            since: Position = (seen.at, NOBODY)
        elif each.bottom == last and seen.last is not None:
            since = seen.last
        else:
            since = each.since
        moved.append(evolve(each, since=since if whole else max(since, each.since)))
    return tuple(moved)


def _split(each: Range, priority: int) -> Iterator[Range]:
    """Return a range in parts, of which one has this priority alone: only so an index finds its bound at once."""
    if not each.bottom <= priority <= each.top or each.bottom == each.top:
        yield each
        return
    if priority < each.top:
        yield evolve(each, bottom=priority + 1)
    yield evolve(each, top=priority, bottom=priority)
    if priority > each.bottom:
        yield evolve(each, top=priority - 1)


def _lowered(ranges: Sequence[Range], priority: int, position: Position) -> tuple[Range, ...]:
    return tuple(
        evolve(each, since=position) if each.bottom <= priority <= each.top and position < each.since else each
        for each in ranges
    )
