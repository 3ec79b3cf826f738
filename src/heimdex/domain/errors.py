"""Every error that Heimdex raises, one tree, each carrying its data.

HeimdexError
|-- InvalidInput (a ValueError)     a value from outside breaks a rule
|   `-- InvalidSetting              an environment variable or option
|-- InvalidPayload (a ValueError)   a document is not in the JSON subset; names the path inside it
|-- UnknownJobType (a ValueError)   the registry has no such type
|-- JobNotFound (a LookupError)     no such job, or a job of another organisation
|-- IllegalTransition               the state machine does not allow it
|-- IdempotencyConflict             same key, different job
|-- UniqueViolation                 another unique constraint, by name
|-- LeaseLost                       the writer no longer holds the job
|-- CancelRequested                 somebody asked to stop this run; let out of a job function, it cancels the job
|-- WorkerHung                      every slot of a worker is taken by a job function that does not return
|-- FileProblem                     a file cannot be read; ends the job for that file alone
|-- CapabilityMissing               this store cannot do it; another one can
|-- NotAuthenticated                no token, or one that does not count; says nothing about why
|-- NotPermitted                    the caller has no role that may do it
|-- LimitReached                    an organisation asks for more than it may; says when to come back
|-- KeysUnavailable                 the keys that tokens are checked with cannot be fetched
|-- UnitOfWorkMisuse                a bug of the caller
|   |-- NestedUnitOfWork            opened inside another one
|   |-- UnitOfWorkNotOpen           used outside its block
|   `-- UnscopedStatement           a statement without its organisation
`-- DatabaseError                   the database said no
    |-- TransientDatabaseError      rolled back for certain: the whole command may be tried again
    |   |-- ConnectionLost          before COMMIT was sent
    |   `-- SerializationConflict   another transaction wrote first, under REPEATABLE READ or SERIALIZABLE
    |-- CommitOutcomeUnknown        the connection was lost around COMMIT: look before trying again
    |-- DatabaseUnavailable         no connection can be had, or it is read-only or full
    |-- SchemaMissing               there is no schema yet
    |-- SchemaMismatch              older or newer than this version of Heimdex
    |-- WallMissing                 production without row-level security, or past it
    |-- RoleNotGranted              the login may not work in this scope
    `-- DataRejected                the database refused a value that the domain let through
"""

from math import ceil
from uuid import UUID

from attrs import define

_SHOWN_CHARACTERS = 80


class Shown(str):
    """The text of a value as `shown` has made it, maybe in another process."""

    __slots__ = ()


def shown(value: object) -> str:
    """Return `repr(value)`, shortened so that an error stays readable and a document never lands in a log."""
    if isinstance(value, Shown):
        return str(value)
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python writes out
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"


class HeimdexError(Exception):
    """Root of the tree."""


@define(slots=False, eq=False)
class InvalidInput(HeimdexError, ValueError):
    """A value from outside breaks a rule. `remedy` says what would be accepted."""

    field: str
    value: object
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {shown(self.value)} is not accepted; {self.remedy}"


@define(slots=False, eq=False)
class InvalidPayload(HeimdexError, ValueError):
    """A document is outside the JSON subset. `path` is like `$.videos[2].name`; the offending value is not repeated."""

    field: str
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: at {self.path}: {self.problem}"


class InvalidSetting(InvalidInput):
    """A setting has no usable value; `field` is the name of the environment variable or option."""


@define(slots=False, eq=False)
class UnknownJobType(HeimdexError, ValueError):
    """The registry has no such type."""

    type: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"type: {shown(self.type)} is not registered; known types: {', '.join(self.known) or 'none'}"


@define(slots=False, eq=False)
class JobNotFound(HeimdexError, LookupError):
    """No such job in this scope. A job of another organisation is not found either."""

    job_id: UUID

    def __str__(self) -> str:
        return f"job {self.job_id} was not found in this organisation; check the id and the organisation"


@define(slots=False, eq=False)
class IllegalTransition(HeimdexError):
    """The state machine has no such move from this status; nothing was changed."""

    job_id: UUID | None
    status: str | None
    trigger: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        possible = ", ".join(self.allowed) or "nothing"
        return f"job {self.job_id} is {self.status or 'new'}: {self.trigger} is not possible; possible: {possible}"


@define(slots=False, eq=False)
class IdempotencyConflict(HeimdexError):
    """The key already belongs to a job with another type or payload."""

    idempotency_key: str
    job_id: UUID
    stored_fingerprint: str
    given_fingerprint: str

    def __str__(self) -> str:
        return (
            f"idempotency_key: {shown(self.idempotency_key)} already belongs to job {self.job_id} with another type or "
            f"payload (stored {self.stored_fingerprint}, given {self.given_fingerprint}); use a new key for a new job"
        )


@define(slots=False, eq=False)
class UniqueViolation(HeimdexError):
    """A unique constraint other than the idempotency key refused a row."""

    constraint_name: str

    def __str__(self) -> str:
        return f"a row with the same values exists (constraint {self.constraint_name}); nothing was written"


@define(slots=False, eq=False)
class LeaseLost(HeimdexError):
    """The writer's lease ended: it expired, was given back, or another worker claimed the job since."""

    job_id: UUID
    lease_seq: int

    def __str__(self) -> str:
        return f"lease {self.lease_seq} of job {self.job_id} has ended; nothing was changed, stop working on this job"


@define(slots=False, eq=False)
class CancelRequested(HeimdexError):
    """Somebody asked that this run stop. A job function that lets it out ends the job as canceled."""

    job_id: UUID

    def __str__(self) -> str:
        return f"the cancel of job {self.job_id} was requested; stop working on it"


@define(slots=False, eq=False)
class WorkerHung(HeimdexError):
    """Every slot of a worker was taken by a job function that does not return, so it ended before its work was done."""

    worker: str

    def __str__(self) -> str:
        return (
            f"{self.worker} ended: every slot was taken by a job function that does not return; what is left is queued"
        )


@define(slots=False, eq=False)
class FileProblem(HeimdexError):
    """A file is not there, not readable, or nothing that has content. `code` is like "not_found", "not_a_file"."""

    uri: str
    code: str
    detail: str

    def __str__(self) -> str:
        return f"{shown(self.uri)}: {self.detail}"


class CapabilityMissing(HeimdexError):
    """This store cannot do what was asked."""


class NotAuthenticated(HeimdexError):
    """No token, or one that does not count. Whoever sent it learns nothing about why."""

    def __str__(self) -> str:
        return "no valid bearer token came with the request; send one as `Authorization: Bearer TOKEN`"


@define(slots=False, eq=False)
class NotPermitted(HeimdexError):
    """The caller is known, and none of its roles gives the right that this takes."""

    right: str

    def __str__(self) -> str:
        return f"none of the roles in this token gives the right {self.right}; ask whoever issues the tokens"


@define(slots=False, eq=False)
class LimitReached(HeimdexError):
    """An organisation asks for more than it may. `retry_in` is when the same may be accepted, in seconds."""

    limit: str
    retry_in: float

    def __str__(self) -> str:
        return f"the limit of {self.limit} is reached; try again in {max(1, ceil(self.retry_in))} s"


class KeysUnavailable(HeimdexError):
    """The keys that tokens are checked with have not been fetched, or too long ago."""

    def __str__(self) -> str:
        return "tokens cannot be checked at the moment; try again"


class UnitOfWorkMisuse(HeimdexError):
    """A unit of work was used in a way that it does not allow."""


class NestedUnitOfWork(UnitOfWorkMisuse):
    """A unit of work was opened inside another one of the same thread and task."""

    def __str__(self) -> str:
        return "a unit of work is already open in this thread and task; use that one, or leave it first"


class UnitOfWorkNotOpen(UnitOfWorkMisuse):
    """A unit of work, or something from it, was used outside its `with` block."""

    def __str__(self) -> str:
        return "this unit of work is not open; use it inside `with app.unit_of_work(scope) as uow:`"


@define(slots=False, eq=False)
class UnscopedStatement(UnitOfWorkMisuse):
    """A statement reached the database without a scope, or without its organisation."""

    statement: str

    def __str__(self) -> str:
        return f"a statement without its organisation was refused: {self.statement[:200]}"


@define(slots=False, eq=False)
class DatabaseError(HeimdexError):
    """The database said no. `detail` is the driver's first line, without parameters."""

    detail: str

    def __str__(self) -> str:
        return self.detail


class TransientDatabaseError(DatabaseError):
    """Rolled back for certain (deadlock, serialisation failure, lost connection before COMMIT): try again."""


class ConnectionLost(TransientDatabaseError):
    """The connection was lost before COMMIT was sent."""


class SerializationConflict(TransientDatabaseError):
    """Another transaction wrote first. Where a unit of work has joined a caller's, the caller's must be tried again."""


class CommitOutcomeUnknown(DatabaseError):
    """The connection was lost once COMMIT was under way. Look whether the rows are there; never repeat blindly."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, or cannot be written."""


class SchemaMissing(DatabaseError):
    """The database has no Heimdex schema yet."""


class SchemaMismatch(DatabaseError):
    """The schema is older or newer than this version of Heimdex knows."""


class WallMissing(DatabaseError):
    """Production asks for row-level security, and it is not made, or does not hold for this login."""


class RoleNotGranted(DatabaseError):
    """The login is no member of the role that a scope works as."""


class DataRejected(DatabaseError):
    """The database refused a value that the domain let through."""


OF_ONE_ROW = (
    DataRejected,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    InvalidPayload,
    JobNotFound,
    UniqueViolation,
    UnknownJobType,
)
"""What one row of a batch can be at fault for; those beside it are not."""
