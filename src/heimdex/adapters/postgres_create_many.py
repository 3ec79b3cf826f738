"""The statement that creates any batch of jobs on PostgreSQL, and their events with them.

Jobs of one kind (type, queue, limits and so on) differ in little. So each kind is decided, stamped and applied once, as
every store does it for each job, and its other jobs are that one with their own id, payload, key and time. The
statement gets the kinds once, and of each job only what is its own; it puts the detail of an event together.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any, overload
from uuid import UUID

from attrs import frozen
from sqlalchemy import TextClause, text

from heimdex.adapters.job_repository import FIXED
from heimdex.adapters.job_verbs import check_ids
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_create import AT_ONCE
from heimdex.adapters.postgres_values import array, array_of, sql_type, text_array, time_array
from heimdex.domain.events import stamp
from heimdex.domain.fold import apply
from heimdex.domain.job import Job, as_kept
from heimdex.domain.json_text import digest, trusted
from heimdex.domain.new_job import JobLimits, JobSpec, create
from heimdex.domain.results import Created
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Trigger, next_status

_BORN = next_status(None, None, Trigger.CREATE)
_OWN = frozenset({"id", "payload_json", "idempotency_key", "fingerprint"})
_OF_A_KIND = tuple(column.key for column in job_table.c if column.key in FIXED - _OWN - {"org_id", "created_at"})

# What each job has of its own in the detail of its event, in the order of the text, and whether it stands in quotes.
_IN_DETAIL = {
    "fingerprint": True,
    "idempotency_key": False,
    "payload_bytes": False,
    "payload_sha256": True,
    "scheduled_at": True,
}
_PIECES = tuple(f"piece_{number}" for number in range(len(_IN_DETAIL) + 1))
# A control character that no checked text holds; the quotes keep it apart from the same letters after a backslash.
_MARK, _MARKED = "\1", '"\\u0001"'
# Stands in no canonical JSON, which escapes it, and in no key, which is printable.
_SEPARATOR = "\x1f"
_TIME = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""

# A key that is taken is passed over; an id that is taken is an error, as it is after the fact everywhere else. Without
# the names of its columns ON CONFLICT would look for each id, too.
_CREATE_MANY = f"""
WITH moment AS MATERIALIZED (
    SELECT to_char(heimdex_now() AT TIME ZONE 'UTC', {_TIME}) AS now
), new AS MATERIALIZED (
    SELECT id, payload, key, fingerprint, payload_sha256, scheduled_at, coalesce(kind, 1) AS kind
    FROM unnest(
        CAST(:id AS uuid[]), string_to_array(:payload, chr(31)), string_to_array(:key, chr(31), ''),
        string_to_array(:fingerprint, chr(31)), string_to_array(:payload_sha256, chr(31)),
        CAST(:scheduled_at AS timestamptz[]), CAST(:kind AS integer[])
    ) AS new (id, payload, key, fingerprint, payload_sha256, scheduled_at, kind)
), born AS (
    INSERT INTO job
        (id, payload, idempotency_key, fingerprint, {{columns}}, org_id, status, attempt, progress, crashes, version,
        created_at, updated_at, scheduled_at)
    SELECT id, CAST(payload AS json), key, fingerprint, {{values}}, CAST(:org_id AS uuid), '{_BORN}', 0, 0, 0, 1,
        heimdex_now(), heimdex_now(), coalesce(scheduled_at, heimdex_now())
    FROM new
    ON CONFLICT (org_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, org_id
), history AS (
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    SELECT id, 1, CAST(:org_id AS uuid), heimdex_now(), NULL, '{_BORN}', '{Trigger.CREATE}', :actor, :source, NULL,
        CAST({{detail}} AS json)
    FROM new
    WHERE (id IN (SELECT id FROM born WHERE born.org_id = CAST(:org_id AS uuid))) IS TRUE
)
SELECT CAST(heimdex_now() AT TIME ZONE 'UTC' AS text),
    (SELECT array_agg(CAST(id AS text)) FROM new WHERE (id IN (SELECT id FROM born)) IS NOT TRUE)
"""  # noqa: S608 - put together from the domain's own words

_OWN_IN_DETAIL = {
    "fingerprint": "fingerprint",
    "idempotency_key": "coalesce(CAST(to_json(key) AS text), 'null')",
    "payload_bytes": "octet_length(convert_to(payload, 'UTF8'))",
    "payload_sha256": "payload_sha256",
    "scheduled_at": f"coalesce(to_char(scheduled_at AT TIME ZONE 'UTC', {_TIME}), (SELECT now FROM moment))",  # noqa: S608 - as above
}


@cache
def create_many_statement() -> TextClause:
    pieces = [f"(CAST(:{piece} AS text[]))[kind]" for piece in _PIECES]
    own = [_OWN_IN_DETAIL[name] for name in _IN_DETAIL]
    detail = " || ".join([pieces[0], *(part for pair in zip(own, pieces[1:], strict=True) for part in pair)])
    return text(
        _CREATE_MANY.format(
            columns=", ".join(job_table.c[name].name for name in _OF_A_KIND),
            values=", ".join(f"(CAST(:{name} AS {sql_type(name)}[]))[kind]" for name in _OF_A_KIND),
            detail=detail,
        )
    )


@frozen
class _Kind:
    """What jobs have in common: their columns, and the pieces of the detail between what is each one's own."""

    # Kept, so that no other limits can come to its place in memory: kinds are told apart by that.
    limits: JobLimits
    queue: str
    priority: int
    columns: dict[str, object]
    pieces: tuple[str, ...]


class Births:
    """Jobs of one organisation that are about to be created.

    It keeps columns, and no object for each job, not even its spec: the more of them live at a time, the more often
    Python looks through everything there is for garbage.

    Raises:
        UniqueViolation: an id is given twice.
    """

    def __init__(self, specs: Iterable[JobSpec], org_id: UUID, scope: Scope, draw: Callable[[], UUID]) -> None:
        self.org_id = org_id
        self._scope = scope
        self._ids: list[UUID] = []
        self._payloads: list[str] = []
        self._fingerprints: list[str] = []
        self._keys: list[str | None] = []
        self._times: list[datetime | None] = []
        self._kinds: list[_Kind] = []
        self._kind_of: list[int] = []
        self._given_ids = False
        self._fill(specs, draw)
        check_ids(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def parameters(self) -> dict[str, Any]:
        keys, payloads, times = self._keys, self._payloads, self._times
        in_order = _in_order_of(keys)
        parameters: dict[str, Any] = {
            "id": array(in_order([job_id.hex for job_id in self._ids])),
            "payload": _SEPARATOR.join(in_order(payloads)),
            "key": _SEPARATOR.join([key or "" for key in in_order(keys)]) if any(keys) else "",
            "fingerprint": _SEPARATOR.join(in_order(self._fingerprints)),
            "payload_sha256": _SEPARATOR.join(in_order([digest(payload) for payload in payloads])),
            # An array that is shorter than the others has NULL for the rest.
            "scheduled_at": time_array(in_order(times)) if any(times) else "{}",
            "kind": array([number + 1 for number in in_order(self._kind_of)]) if len(self._kinds) > 1 else "{}",
            "org_id": str(self.org_id),
            "actor": self._scope.actor,
            "source": self._scope.source,
        }
        for name, write in _writers():
            parameters[name] = write([kind.columns[name] for kind in self._kinds])
        for number, piece in enumerate(_PIECES):
            parameters[piece] = text_array([kind.pieces[number] for kind in self._kinds])
        return parameters

    @property
    def may_be_refused(self) -> bool:
        return self._given_ids or any(self._keys)

    def priorities_and_times(self) -> set[tuple[int, datetime | None]]:
        return {(self._kinds[kind].priority, time) for kind, time in set(zip(self._kind_of, self._times, strict=True))}

    def due_queues(self, now: datetime) -> set[str]:
        due = {kind for kind, time in zip(self._kind_of, self._times, strict=True) if time is None or time <= now}
        return {self._kinds[kind].queue for kind in due}

    def jobs(self, now: datetime) -> list[Job]:
        """Return the jobs as they are once the statement has run, in the order given."""
        commons = [{**kind.columns, "created_at": now, "updated_at": now} for kind in self._kinds]
        columns = zip(
            self._ids, self._payloads, self._keys, self._fingerprints, self._times, self._kind_of, strict=True
        )
        return [
            as_kept(
                {
                    **commons[kind],
                    "id": job_id,
                    "payload_json": payload_json,
                    "idempotency_key": key,
                    "fingerprint": fingerprint,
                    "scheduled_at": time or now,
                }
            )
            for job_id, payload_json, key, fingerprint, time, kind in columns
        ]

    def _fill(self, specs: Iterable[JobSpec], draw: Callable[[], UUID]) -> None:
        numbers: dict[object, int] = {}
        for spec in specs:
            new = spec.new
            if new.id is not None:
                self._given_ids = True
            job_id = new.id or draw()
            self._ids.append(job_id)
            self._payloads.append(spec.payload_json)
            self._fingerprints.append(spec.fingerprint)
            self._keys.append(new.idempotency_key)
            self._times.append(new.scheduled_at)
            # The limits by identity: to compare them takes as long as all the rest, and those of a type are one object.
            common = (new.type, new.queue, new.priority, new.requested_by, id(spec.limits), spec.parent_id)
            number = numbers.setdefault(common, len(numbers))
            if number == len(self._kinds):
                self._kinds.append(self._kind(spec, job_id))
            self._kind_of.append(number)

    def _kind(self, spec: JobSpec, job_id: UUID) -> _Kind:
        decision = create(spec, job_id=job_id, requested_by=self._scope.actor)
        event = stamp(decision, job_id=job_id, org_id=self.org_id, seq=1, ts=AT_ONCE, scope=self._scope)
        detail = decision.detail_at(AT_ONCE)
        pieces = trusted({**detail, **dict.fromkeys(_IN_DETAIL, _MARK)}).split(_MARKED)
        for number, in_quotes in enumerate(_IN_DETAIL.values()):
            if in_quotes:
                pieces[number] += '"'
                pieces[number + 1] = '"' + pieces[number + 1]
        job = apply(None, event, detail)
        return _Kind(spec.limits, job.queue, job.priority, vars(job), tuple(pieces))


class AllCreated(Sequence[Created]):
    """The answer where no key was taken. Its jobs are made when somebody looks at one: most callers never do."""

    def __init__(self, births: Births, now: datetime) -> None:
        self._births = births
        self._now = now
        self._created: list[Created] = []

    def __len__(self) -> int:
        return len(self._births)

    @overload
    def __getitem__(self, place: int, /) -> Created: ...

    @overload
    def __getitem__(self, place: slice, /) -> list[Created]: ...

    def __getitem__(self, place: int | slice, /) -> Created | list[Created]:
        if not self._created:
            self._created = [Created(job, replayed=False) for job in self._births.jobs(self._now)]
        return self._created[place]


def _in_order_of(keys: Sequence[str | None]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what puts a column in the order of keys, since an insert waits for another one's of the same key."""
    if not any(keys):
        return lambda column: column
    return itemgetter(*sorted(range(len(keys)), key=lambda place: keys[place] or ""))


@cache
def _writers() -> list[tuple[str, Callable[[Iterable[Any]], str]]]:
    return [(name, array_of(job_table.c[name])) for name in _OF_A_KIND]
