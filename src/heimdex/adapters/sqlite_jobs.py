"""The hot primitives restated for SQLite: rows go to its driver and come from it past SQLAlchemy's types.

The statements are those of the other stores; what is saved is the time that SQLAlchemy takes for each value of each
row. The tests' state machine holds them equal.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from attrs import fields_dict
from sqlalchemy import Select

from heimdex.adapters.driver_statements import DriverStatement, on_driver
from heimdex.adapters.job_repository import MUTABLE, SqlAlchemyJobRepository
from heimdex.adapters.job_verbs import Change, Located
from heimdex.adapters.orm import event_table, job_table
from heimdex.adapters.plain_success import first_endings, in_order, is_plain_success, succeeded
from heimdex.adapters.rows import jobs_from
from heimdex.adapters.scoping import scoped
from heimdex.adapters.sqlite_rows import Row, RowForm, as_stored
from heimdex.adapters.sqlite_succeed import still_held, succeed
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.results import Ending, Written

_NAMES = tuple(fields_dict(Job))
_STORED = tuple(as_stored(job_table.c[name]) for name in _NAMES)
_JOB = RowForm(job_table, _NAMES)
_EVENT = RowForm(event_table, tuple(fields_dict(JobEvent)))
_CHANGED = RowForm(job_table, (*MUTABLE, "id", "org_id"))


def _insert_into(table: str, form: RowForm, otherwise: str = "") -> DriverStatement:
    marks = ", ".join("?" * len(form.columns))
    sql = f"INSERT INTO {table} ({', '.join(form.columns)}) VALUES ({marks}) {otherwise}"  # noqa: S608 - our own names
    return DriverStatement(sql, form.columns.index("org_id"))


_CREATE = _insert_into("job", _JOB, "ON CONFLICT DO NOTHING")
_APPEND = _insert_into("job_event", _EVENT)
_WRITE = DriverStatement(
    f"UPDATE job SET {', '.join(f'{name} = ?' for name in _CHANGED.columns[: len(MUTABLE)])}"  # noqa: S608 - as above
    " WHERE id = ? AND org_id = ? AND version = ? AND lease_seq IS ?",
    _CHANGED.columns.index("org_id"),
)
# The plus keeps the planner from an index on the organisation: the rows stand in the order that is asked for.
_LAST = DriverStatement("SELECT id FROM job WHERE +org_id = ? ORDER BY rowid DESC LIMIT ?", 0)


class SqliteJobRepository(SqlAlchemyJobRepository):
    def _insert(self, changes: Sequence[Change]) -> Collection[UUID]:
        number = self._run_on_driver(_CREATE, _JOB.rows(change.job for change in changes))
        if number == len(changes):
            inserted = {change.job.id for change in changes}
        else:
            inserted = self._last(changes[0].job.org_id, number)
        self._append(event for change in changes if change.job.id in inserted for event in change.events)
        return inserted

    def _last(self, org_id: UUID, number: int) -> set[UUID]:
        """Return the ids of the jobs inserted last: SQLite numbers rows upwards, and nobody else writes now."""
        rows = on_driver(self._session().connection(), _LAST, self._scope, [(org_id.hex, number)])
        return {UUID(job_id) for job_id in rows.scalars()}

    def _write(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        rows = [
            (*row, change.version_before, change.lease_seq_before)
            for row, change in zip(_CHANGED.rows(change.job for change in changes), changes, strict=True)
        ]
        self._expect(len(rows), self._run_on_driver(_WRITE, rows))
        self._append(event for change in changes for event in change.events)

    def finish(self, endings: Sequence[Ending]) -> Written:
        firsts = first_endings(endings)
        done = self._succeed({place: ending for place, ending in firsts.items() if is_plain_success(ending)})
        others = [ending for place, ending in enumerate(endings) if place not in done]
        rest = super().finish(others) if others else Written((), ())
        return Written(in_order([*done.values(), *rest.jobs]), rest.refusals)

    def _succeed(self, endings: Mapping[int, Ending]) -> dict[int, Job]:
        """End the runs whose rows are as their claims returned them; return the jobs that were written."""
        if not endings:
            return {}
        connection = self._session().connection()
        held = still_held(connection, endings, self._scope, self._now())
        if held:
            successes = [(endings[place], one) for place, one in held]
            self._expect(len(held), succeed(connection, successes, self._scope))
        return {place: succeeded(endings[place], one.ended_at) for place, one in held}

    def _append(self, events: Iterable[JobEvent]) -> None:
        if rows := _EVENT.rows(events):
            self._run_on_driver(_APPEND, rows)

    def _run_on_driver(self, statement: DriverStatement, rows: list[Row]) -> int:
        """Run one statement for many rows; return how many it changed."""
        return on_driver(self._session().connection(), statement, self._scope, rows).rowcount

    def _located(self, statement: Select[Job]) -> Located:
        rows = self._session().execute(scoped(statement.with_only_columns(*_STORED), self._scope, job_table)).all()
        return self._now(), {job.id: job for job in jobs_from(rows, _NAMES, {})}
