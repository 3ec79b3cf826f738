"""The statement that creates one job on PostgreSQL, and its event with it.

It is the one that says when: nobody need ask the database for its time before. So nothing that it is given holds the
time, unless the caller says when the job starts.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from heimdex.adapters.postgres_kinds import kind_of
from heimdex.domain.job import Job, as_kept
from heimdex.domain.json_text import digest, trusted
from heimdex.domain.new_job import JobSpec
from heimdex.domain.rules import to_text
from heimdex.domain.scope import Scope

# One goes to a function of the schema, whose plans a connection makes once: to parse and plan a statement of this
# length takes longer than to run it. psycopg2 prepares none, and behind a pooler of transactions nobody could.
ONE = (
    *("org_id", "id", "parent_id", "type", "queue", "priority", "payload_json", "max_attempts", "backoff_policy"),
    *("backoff_base", "backoff_factor", "backoff_cap", "backoff_jitter", "timeout", "scheduled_at", "idempotency_key"),
    *("fingerprint", "requested_by", "actor", "source", "detail_before", "detail_after"),
)
"""The parameters of the function, in its order."""
CREATE_ONE = f"SELECT heimdex_create_job_v1({', '.join(['%s'] * len(ONE))})"


class Birth:
    """A job of an organisation that is about to be created."""

    def __init__(self, spec: JobSpec, org_id: UUID, scope: Scope, draw: Callable[[], UUID]) -> None:
        self.kind = kind_of(spec, scope)
        self.id = spec.new.id or draw()
        self.at = spec.new.scheduled_at
        self._spec = spec
        self._org_id = org_id
        self._scope = scope

    def values(self) -> tuple[object, ...]:
        """Return what the function for one takes after the organisation."""
        kind, spec, scope = self.kind.scalars, self._spec, self._scope
        return (
            str(self.id),
            kind["parent_id"],
            kind["type"],
            kind["queue"],
            kind["priority"],
            spec.payload_json,
            kind["max_attempts"],
            kind["backoff_policy"],
            kind["backoff_base"],
            kind["backoff_factor"],
            kind["backoff_cap"],
            kind["backoff_jitter"],
            kind["timeout"],
            self.at,
            spec.new.idempotency_key,
            spec.fingerprint,
            kind["requested_by"],
            scope.actor,
            scope.source,
            *self._detail(),
        )

    def job(self, now: datetime) -> Job:
        """Return the job as it is once the statement has run."""
        own = {
            "id": self.id,
            "org_id": self._org_id,
            "payload_json": self._spec.payload_json,
            "idempotency_key": self._spec.new.idempotency_key,
            "fingerprint": self._spec.fingerprint,
            "scheduled_at": self.at or now,
            "created_at": now,
            "updated_at": now,
        }
        return as_kept({**self.kind.columns, **own})

    def _detail(self) -> tuple[str, str]:
        """Return the detail of the event before the time of the statement, and after it."""
        first, second, third, fourth, fifth, last = self.kind.pieces
        spec = self._spec
        key, payload = trusted(spec.new.idempotency_key), spec.payload_json
        size = len(payload.encode())
        before = f"{first}{spec.fingerprint}{second}{key}{third}{size}{fourth}{digest(payload)}{fifth}"
        return (before, last) if self.at is None else (before + to_text(self.at) + last, "")
