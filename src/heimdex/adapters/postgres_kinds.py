"""What jobs have in common that differ only in id, organisation, payload, key and time: their kind.

A kind is decided, stamped and applied once, as every store does it for each job. Its jobs are that one with what is
their own, and so is the detail of their events.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from attrs import frozen

from heimdex.adapters.job_repository import FIXED
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_values import scalar_of
from heimdex.domain.events import stamp
from heimdex.domain.fold import apply
from heimdex.domain.json_text import trusted
from heimdex.domain.new_job import JobLimits, JobSpec, NewJob, create
from heimdex.domain.scope import Scope, Tenant

# Stands for a time that is not known yet: that of the statement.
_AT_ONCE = datetime(9999, 1, 1, tzinfo=UTC)
_OWN = frozenset({"id", "org_id", "payload_json", "idempotency_key", "fingerprint", "created_at"})
OF_A_KIND = tuple(column.key for column in job_table.c if column.key in FIXED - _OWN)

# What each job has of its own in the detail of its event, in the order of the text, and whether it stands in quotes.
IN_DETAIL = {
    "fingerprint": True,
    "idempotency_key": False,
    "payload_bytes": False,
    "payload_sha256": True,
    "scheduled_at": True,
}
PIECES = len(IN_DETAIL) + 1
# A control character that no checked text holds; the quotes keep it apart from the same letters after a backslash.
_MARK, _MARKED = "\1", '"\\u0001"'
_NOBODY = UUID(int=0)
_AT_HAND = 256


@frozen(eq=False)
class Kind:
    """Columns of a job, those of `OF_A_KIND` as the driver takes them, and the pieces between what is a job's own."""

    queue: str
    priority: int
    columns: Mapping[str, object]
    scalars: Mapping[str, object]
    pieces: tuple[str, ...]


def kind_of(spec: JobSpec, scope: Scope) -> Kind:
    new = spec.new
    where = new.type, new.queue, new.priority
    return _kind(where, new.requested_by or scope.actor, spec.limits, spec.parent_id)


@lru_cache(_AT_HAND)
def _kind(where: tuple[str, str, int], requested_by: str, limits: JobLimits, parent_id: UUID | None) -> Kind:
    type, queue, priority = where
    new = NewJob(type, queue=queue, priority=priority, requested_by=requested_by)
    spec = JobSpec(new=new, payload_json="{}", fingerprint="", limits=limits, parent_id=parent_id)
    decision = create(spec, job_id=_NOBODY, requested_by=requested_by)
    scope = Tenant(_NOBODY, actor=requested_by)
    event = stamp(decision, job_id=_NOBODY, org_id=_NOBODY, seq=1, ts=_AT_ONCE, scope=scope)
    detail = decision.detail_at(_AT_ONCE)
    columns = vars(apply(None, event, detail))
    scalars = {name: to_driver(columns[name]) for name, to_driver in _to_driver().items()}
    pieces = trusted({**detail, **dict.fromkeys(IN_DETAIL, _MARK)}).split(_MARKED)
    for number, in_quotes in enumerate(IN_DETAIL.values()):
        if in_quotes:
            pieces[number] += '"'
            pieces[number + 1] = '"' + pieces[number + 1]
    return Kind(queue, priority, columns, scalars, tuple(pieces))


@cache
def _to_driver() -> dict[str, Callable[[Any], object]]:
    return {name: scalar_of(job_table.c[name]) for name in OF_A_KIND}
