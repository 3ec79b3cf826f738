"""The whole ledger in the order of ids, page by page: rows beside their histories, each of which is read as a whole."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, cast, func, not_, select, type_coerce
from sqlalchemy.orm import Session

from heimdex.adapters.database import Database
from heimdex.adapters.orm import event_table, job_table
from heimdex.adapters.reading import load_jobs
from heimdex.adapters.scoping import scoped
from heimdex.domain.errors import DatabaseError, DataRejected, shown
from heimdex.domain.job import Job
from heimdex.domain.scope import Scope
from heimdex.domain.verification_model import HistoryLine
from heimdex.service_layer.ports import Recorded

# As many rows as are held at once, but for one job's history: that is read as a whole. A payload has up to 256 KiB.
_JOBS, _EVENTS = 500, 5_000

# What a driver or a column type raises for a value that was written past Heimdex.
_UNREADABLE = (ValueError, TypeError, OverflowError, LookupError, DataRejected)

# Statuses and triggers as the text that is stored, which need not be one of ours. Tuples: a mapped event costs as much
# as its verification.
_LINE = select(
    cast(event_table.c.job_id, Text),
    event_table.c.seq,
    cast(event_table.c.org_id, Text),
    event_table.c.ts,
    type_coerce(event_table.c.prev_status, Text),
    type_coerce(event_table.c.next_status, Text),
    type_coerce(event_table.c.trigger, Text),
    event_table.c.source,
    event_table.c.reason,
    event_table.c.detail_json,
)
_IN_ORDER = (event_table.c.job_id, event_table.c.seq)

_NO_ID = UUID(int=0)

_job_id = attrgetter("job_id")
# A history has one job and one organisation, and to make a UUID of text is slow.
_id = lru_cache(1_000)(UUID)


class LedgerPages:
    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope
        self._jobs_at_once = _JOBS

    def read(self, after: UUID | None) -> Iterator[Recorded]:
        more = unasked = True
        while more:
            try:
                page, upto = self._page(after)
            except (*_UNREADABLE, DatabaseError) as error:
                _check_unreadable(error)
                if unasked:
                    yield from self._without_id()
                unasked = False
                page, upto = self._one_by_one(after)
            yield from page
            after, more = upto, upto is not None

    def _page(self, after: UUID | None) -> tuple[list[Recorded], UUID | None]:
        """Return a page and the last id that it covers, None where it covers all the rest."""
        with self._database.beholding(self._scope) as session:
            jobs = self._jobs(session, after, self._jobs_at_once)
            upto = jobs[-1].id if len(jobs) == self._jobs_at_once else None
            lines = self._lines(session, _up_to(_above(_LINE, after), upto).order_by(*_IN_ORDER).limit(_EVENTS))
            self._jobs_at_once = min(2 * self._jobs_at_once, _JOBS)
            if len(lines) == _EVENTS:
                # The last history may go on below: it belongs to the next page, unless it is all there is.
                last = lines[-1].job_id
                lines = [line for line in lines if line.job_id != last] or self._history(session, last)
                upto = lines[-1].job_id
                jobs = [job for job in jobs if job.id <= upto]
                self._jobs_at_once = min(2 * len(jobs) + 1, _JOBS)
        return list(_side_by_side(jobs, lines)), upto

    def _without_id(self) -> Iterator[Recorded]:
        """Yield one record for the rows, and one for the events, whose id is none: no page comes to them."""
        for column, what in ((job_table.c.id, "rows"), (event_table.c.job_id, "events")):
            is_no_id = self._database.is_no_id(column)
            if is_no_id is None:
                return
            statement = select(func.count(), func.min(type_coerce(column, Text))).where(is_no_id)
            with self._database.beholding(self._scope) as session:
                count, example = session.execute(scoped(statement, self._scope, column.table)).one()
            if count:
                yield Recorded(_NO_ID, None, (), f"{count} {what} have an id that is none, such as {shown(example)}")

    def _one_by_one(self, after: UUID | None) -> tuple[list[Recorded], UUID | None]:
        """Return a page in which what cannot be read is passed over."""
        ids = set()
        with self._database.beholding(self._scope) as session:
            for column in (job_table.c.id, event_table.c.job_id):
                statement = select(column).distinct().order_by(column).limit(_JOBS)
                is_no_id = self._database.is_no_id(column)
                if is_no_id is not None:
                    statement = statement.where(not_(is_no_id))
                if after is not None:
                    statement = statement.where(column > after)
                ids |= set(session.scalars(scoped(statement, self._scope, column.table)))
        in_order = sorted(ids)[:_JOBS]
        return list(map(self._one, in_order)), in_order[-1] if len(ids) >= _JOBS else None

    def _one(self, job_id: UUID) -> Recorded:
        try:
            with self._database.beholding(self._scope) as session:
                jobs = load_jobs(session, select(Job).where(job_table.c.id == job_id), self._scope)
                return Recorded(job_id, next(iter(jobs), None), self._history(session, job_id))
        except (*_UNREADABLE, DatabaseError) as error:
            kind = _check_unreadable(error)
            return Recorded(job_id, None, (), f"its row or an event cannot be read ({kind.__name__})")

    def _jobs(self, session: Session, after: UUID | None, limit: int) -> list[Job]:
        statement = select(Job).order_by(job_table.c.id).limit(limit)
        if after is not None:
            statement = statement.where(job_table.c.id > after)
        return load_jobs(session, statement, self._scope)

    def _history(self, session: Session, job_id: UUID) -> list[HistoryLine]:
        return self._lines(session, _LINE.where(event_table.c.job_id == job_id).order_by(event_table.c.seq))

    def _lines(self, session: Session, statement: Select[Any]) -> list[HistoryLine]:
        rows = session.execute(scoped(statement, self._scope, event_table))
        return [HistoryLine(_id(row[0]), row[1], _id(row[2]), *row[3:]) for row in rows]


def _check_unreadable(error: Exception) -> type[BaseException]:
    """Return of which kind an error is that comes from a value; raise any other."""
    # What a driver's conversion raises is translated with the driver's own errors.
    cause = error.__cause__ if type(error) is DatabaseError else error
    if not isinstance(cause, _UNREADABLE):
        raise error
    return type(cause)


def _above(statement: Select[Any], after: UUID | None) -> Select[Any]:
    return statement if after is None else statement.where(event_table.c.job_id > after)


def _up_to(statement: Select[Any], upto: UUID | None) -> Select[Any]:
    return statement if upto is None else statement.where(event_table.c.job_id <= upto)


def _side_by_side(jobs: Sequence[Job], lines: Sequence[HistoryLine]) -> Iterator[Recorded]:
    """Yield rows and histories, both in the order of ids, as one sequence."""
    rows = {job.id: job for job in jobs}
    histories = {job_id: list(group) for job_id, group in groupby(lines, key=_job_id)}
    ids = list(rows) if rows.keys() == histories.keys() else sorted(set(chain(rows, histories)))
    return (Recorded(job_id, rows.get(job_id), histories.get(job_id, ())) for job_id in ids)
