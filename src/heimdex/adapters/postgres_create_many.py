"""The statement that creates any batch of jobs on PostgreSQL, and their events with them.

The statement gets each kind of job once, and of each job only what is its own; it puts the detail of an event together.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text

from heimdex.adapters.job_verbs import check_ids
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_kinds import IN_DETAIL, OF_A_KIND, PIECES, Kind, kind_of
from heimdex.adapters.postgres_values import array, array_of, sql_type, text_array, time_array
from heimdex.domain.job import Job, as_kept
from heimdex.domain.json_text import digest
from heimdex.domain.new_job import JobLimits, JobSpec
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Trigger, next_status

_BORN = next_status(None, None, Trigger.CREATE)
_PIECES = tuple(f"piece_{number}" for number in range(PIECES))
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
    own = [_OWN_IN_DETAIL[name] for name in IN_DETAIL]
    detail = " || ".join([pieces[0], *(part for pair in zip(own, pieces[1:], strict=True) for part in pair)])
    return text(
        _CREATE_MANY.format(
            columns=", ".join(job_table.c[name].name for name in OF_A_KIND),
            values=", ".join(f"(CAST(:{name} AS {sql_type(name)}[]))[kind]" for name in OF_A_KIND),
            detail=detail,
        )
    )


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
        self._kinds: list[Kind] = []
        self._kind_of: list[int] = []
        # Kept, so that no other limits can come to its place in memory: kinds are told apart by that.
        self._limits: list[JobLimits] = []
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
        of_all = {"org_id": self.org_id, "created_at": now, "updated_at": now}
        commons = [{**kind.columns, **of_all} for kind in self._kinds]
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
                self._kinds.append(kind_of(spec, self._scope))
                self._limits.append(spec.limits)
            self._kind_of.append(number)


def _in_order_of(keys: Sequence[str | None]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what puts a column in the order of keys, since an insert waits for another one's of the same key."""
    if not any(keys):
        return lambda column: column
    return itemgetter(*sorted(range(len(keys)), key=lambda place: keys[place] or ""))


@cache
def _writers() -> list[tuple[str, Callable[[Iterable[Any]], str]]]:
    return [(name, array_of(job_table.c[name])) for name in OF_A_KIND]
