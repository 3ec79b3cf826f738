"""The shape of the database, and the imperative mapping of the domain's classes to it.

Columns whose name differs from the attribute carry the attribute's name as their key, so that rows, parameters and
attributes share one set of names.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from threading import Lock
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Uuid,
    column,
    desc,
    table,
)
from sqlalchemy.orm import configure_mappers, registry
from sqlalchemy.orm.base import DEFAULT_STATE_ATTR
from sqlalchemy.orm.instrumentation import ClassManager, manager_of_class
from sqlalchemy.orm.state import InstanceState

from heimdex.adapters.columns import Milliseconds, Names, StatusText, TriggerText, UtcDateTime, canonical_json
from heimdex.domain.asset import MAX_URI, Asset
from heimdex.domain.constraints import ASSET_URI, IDEMPOTENCY_KEY
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.outcomes import MAX_ERROR_CODE, MAX_ERROR_MESSAGE
from heimdex.domain.rules import MAX_KEY, MAX_NAME, MAX_REASON, MAX_STAGE
from heimdex.domain.transitions import END_STATUSES, Status, Trigger
from heimdex.domain.worker import WorkerRecord

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(constraint_name)s",
    }
)


def _names(members: Iterable[StrEnum]) -> str:
    """Return a domain set as SQL literals, sorted so that the text does not depend on the order of a set."""
    return ", ".join(f"'{name}'" for name in sorted(members))


job_table = Table(
    "job",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("org_id", Uuid, nullable=False),
    Column("parent_id", Uuid),
    Column("type", String(MAX_NAME), nullable=False),
    Column("queue", String(MAX_NAME), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("payload", canonical_json(), key="payload_json", nullable=False),
    Column("result", canonical_json(), key="result_json"),
    Column("status", StatusText, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("backoff_policy", String(8), nullable=False),
    Column("backoff_base_ms", Milliseconds, key="backoff_base", nullable=False),
    Column("backoff_factor", Double, nullable=False),
    Column("backoff_cap_ms", Milliseconds, key="backoff_cap", nullable=False),
    Column("backoff_jitter", Double, nullable=False),
    Column("timeout_ms", Milliseconds, key="timeout", nullable=False),
    Column("scheduled_at", UtcDateTime, nullable=False),
    Column("idempotency_key", String(MAX_KEY)),
    Column("fingerprint", String(64), nullable=False),
    Column("requested_by", String(MAX_NAME), nullable=False),
    Column("stage", String(MAX_STAGE)),
    Column("progress", SmallInteger, nullable=False),
    Column("claimed_by", Uuid),
    Column("lease_seq", Integer),
    Column("lease_until", UtcDateTime),
    Column("crashes", SmallInteger, nullable=False),
    Column("cancel_requested_at", UtcDateTime),
    Column("last_error_code", String(MAX_ERROR_CODE)),
    Column("last_error_message", String(MAX_ERROR_MESSAGE)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("id"),
    CheckConstraint(f"status IN ({_names(Status)})", name="status"),
    CheckConstraint("progress BETWEEN 0 AND 100", name="progress"),
    CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="attempt"),
    CheckConstraint("crashes >= 0", name="crashes"),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint(
        f"(status = '{Status.RUNNING}') = (lease_seq IS NOT NULL)"
        f" AND (status = '{Status.RUNNING}') = (lease_until IS NOT NULL)"
        f" AND (status = '{Status.RUNNING}') = (claimed_by IS NOT NULL)",
        name="lease",
    ),
    CheckConstraint(f"(status IN ({_names(END_STATUSES)})) = (finished_at IS NOT NULL)", name="finished_at"),
)

Index(
    IDEMPOTENCY_KEY,
    job_table.c.org_id,
    job_table.c.idempotency_key,
    unique=True,
    postgresql_where=job_table.c.idempotency_key.is_not(None),
    sqlite_where=job_table.c.idempotency_key.is_not(None),
)
Index("idx_job_org_status", job_table.c.org_id, job_table.c.status, job_table.c.created_at, job_table.c.id)

CLAIM_ORDER = (desc(job_table.c.priority), job_table.c.scheduled_at, job_table.c.id)
_queued = job_table.c.status == Status.QUEUED
_running = job_table.c.status == Status.RUNNING
Index("idx_job_claim", *CLAIM_ORDER, postgresql_where=_queued, sqlite_where=_queued)
# lease_until is left out on purpose: a renewal then touches no index (a HOT update on PostgreSQL).
Index("idx_job_running", job_table.c.id, postgresql_where=_running, sqlite_where=_running)

_ended = job_table.c.finished_at.is_not(None)
Index("idx_job_finished", job_table.c.finished_at, job_table.c.id, postgresql_where=_ended, sqlite_where=_ended)

event_table = Table(
    "job_event",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("org_id", Uuid, nullable=False),
    Column("ts", UtcDateTime, nullable=False),
    Column("prev_status", StatusText),
    Column("next_status", StatusText, nullable=False),
    Column("trigger", TriggerText, nullable=False),
    Column("actor", String(MAX_NAME), nullable=False),
    Column("source", String(MAX_NAME)),
    Column("reason", String(MAX_REASON)),
    Column("detail_json", canonical_json(), nullable=False),
    PrimaryKeyConstraint("job_id", "seq"),
    CheckConstraint("seq >= 1", name="seq"),
    CheckConstraint(f"trigger IN ({_names(Trigger)})", name="trigger"),
)

refusal_table = Table(
    "job_refusal",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("org_id", Uuid, nullable=False),
    Column("ts", UtcDateTime, nullable=False),
    Column("lease_seq", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("trigger", String(32), nullable=False),
    Column("actor", String(MAX_NAME), nullable=False),
    Column("source", String(MAX_NAME)),
    PrimaryKeyConstraint("id"),
)
Index("idx_job_refusal_org_job", refusal_table.c.org_id, refusal_table.c.job_id)

asset_table = Table(
    "asset",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("org_id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("uri", String(MAX_URI), nullable=False),
    Column("media_type", String(MAX_NAME), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("metadata", canonical_json(), key="metadata_json", nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("id"),
)
Index(ASSET_URI, asset_table.c.org_id, asset_table.c.job_id, asset_table.c.uri, unique=True)

EVERY_ORGANISATION = UUID(int=0)
"""Stands for no organisation in particular where a key needs one."""

pause_table = Table(
    "paused_queue",
    metadata,
    Column("org_id", Uuid, nullable=False),
    Column("queue", String(MAX_NAME), nullable=False),
    Column("actor", String(MAX_NAME), nullable=False),
    Column("reason", String(MAX_REASON), nullable=False),
    Column("paused_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("org_id", "queue"),
)

erasure_table = Table(
    "org_erasure",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("org_id", Uuid, nullable=False),
    Column("actor", String(MAX_NAME), nullable=False),
    Column("reason", String(MAX_REASON), nullable=False),
    Column("erased_at", UtcDateTime, nullable=False),
    Column("jobs", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("refusals", BigInteger, nullable=False),
    Column("assets", BigInteger, nullable=False),
    PrimaryKeyConstraint("id"),
)

# SQLite has it alone, so that it is no part of the metadata: see the migration 0002.
pruning_table = table("pruning", column("id", Integer))

worker_table = Table(
    "worker",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("name", String(MAX_NAME), nullable=False),
    Column("types", Names, nullable=False),
    Column("queues", Names, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("id"),
)


_mapping = Lock()


def map_domain() -> None:
    """Map the domain's classes, once per process, whichever thread comes first."""
    with _mapping:
        _map_domain()


@cache
def _map_domain() -> None:
    mapper = registry(metadata=metadata)
    mapper.map_imperatively(Job, job_table)
    mapper.map_imperatively(JobEvent, event_table)
    mapper.map_imperatively(Asset, asset_table)
    mapper.map_imperatively(WorkerRecord, worker_table)
    # Before any job is made: until then an attribute of the class cannot be read on an object of it.
    configure_mappers()
    setattr(Job, DEFAULT_STATE_ATTR, _StateOnDemand(manager_of_class(Job)))


class _StateOnDemand:
    """Gives a job that was made past `__init__` the state that SQLAlchemy keeps beside it, once somebody asks for it.

    Most jobs are only read, and never need it. An object's own state, once it is there, hides this.
    """

    def __init__(self, manager: "ClassManager[Job]") -> None:
        self._manager = manager

    def __get__(self, job: Job | None, _: type[Job]) -> "InstanceState[Job]":
        if job is None:
            raise AttributeError(DEFAULT_STATE_ATTR)
        state = InstanceState(job, self._manager)
        vars(job)[DEFAULT_STATE_ATTR] = state
        return state
