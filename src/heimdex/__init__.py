"""Heimdex: a durable job ledger and job queue for many organisations.

These are the names that applications use; `heimdex.bootstrap` puts an application together.
"""

from heimdex.domain.asset import Asset, NewAsset
from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import (
    CancelRequested,
    CapabilityMissing,
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DataRejected,
    FileProblem,
    HeimdexError,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    InvalidPayload,
    InvalidSetting,
    JobNotFound,
    KeysUnavailable,
    LeaseLost,
    LimitReached,
    NestedUnitOfWork,
    NotAuthenticated,
    NotPermitted,
    RoleNotGranted,
    SchemaMismatch,
    SchemaMissing,
    SerializationConflict,
    TransientDatabaseError,
    UniqueViolation,
    UnitOfWorkMisuse,
    UnitOfWorkNotOpen,
    UnknownJobType,
    UnscopedStatement,
    WallMissing,
    WorkerHung,
)
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter, PayloadMatch
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.outcomes import Cancel, Fail, Snooze
from heimdex.domain.results import Created, CreatedBatch, JobWithEvents
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import END_STATUSES, TRANSITIONS, Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry

__all__ = [
    "END_STATUSES",
    "TRANSITIONS",
    "Asset",
    "Cancel",
    "CancelRequested",
    "CapabilityMissing",
    "CommitOutcomeUnknown",
    "ConnectionLost",
    "CreateJobs",
    "Created",
    "CreatedBatch",
    "DataRejected",
    "DatabaseError",
    "DatabaseUnavailable",
    "Exponential",
    "Fail",
    "FileProblem",
    "Fixed",
    "HeimdexError",
    "IdempotencyConflict",
    "IllegalTransition",
    "InvalidInput",
    "InvalidPayload",
    "InvalidSetting",
    "Job",
    "JobContext",
    "JobEvent",
    "JobFilter",
    "JobLimits",
    "JobNotFound",
    "JobRegistry",
    "JobWithEvents",
    "KeysUnavailable",
    "LeaseLost",
    "LimitReached",
    "NestedUnitOfWork",
    "NewAsset",
    "NewJob",
    "NoRetry",
    "NotAuthenticated",
    "NotPermitted",
    "PayloadMatch",
    "RoleNotGranted",
    "SchemaMismatch",
    "SchemaMissing",
    "SerializationConflict",
    "Snooze",
    "Status",
    "System",
    "Tenant",
    "TransientDatabaseError",
    "Trigger",
    "UniqueViolation",
    "UnitOfWorkMisuse",
    "UnitOfWorkNotOpen",
    "UnknownJobType",
    "UnscopedStatement",
    "WallMissing",
    "WorkerHung",
]
