"""One tree of errors, as it is drawn."""

import inspect
import pickle
import re

import pytest

from heimdex.domain import errors
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
    Shown,
    TransientDatabaseError,
    UniqueViolation,
    UnitOfWorkMisuse,
    UnitOfWorkNotOpen,
    UnknownJobType,
    UnscopedStatement,
    WallMissing,
    WorkerHung,
    shown,
)
from tests.domain.life import JOB

# An error of each class, and what its text must name.
SAMPLES: dict[HeimdexError, tuple[str, ...]] = {
    HeimdexError("anything"): ("anything",),
    InvalidInput("priority", 99_999, "give less"): ("priority", "99999", "give less"),
    InvalidSetting("HEIMDEX_POOL_SIZE", "many", "give a number"): ("HEIMDEX_POOL_SIZE", "'many'", "give a number"),
    InvalidPayload("payload", "$.a[2]", "NaN is not JSON"): ("payload", "$.a[2]", "NaN is not JSON"),
    UnknownJobType("mail.sned", ("drive.ingest", "mail.send")): ("'mail.sned'", "drive.ingest", "mail.send"),
    JobNotFound(JOB): (str(JOB),),
    IllegalTransition(JOB, "queued", "succeed", ("claim", "cancel")): (str(JOB), "queued", "succeed", "claim, cancel"),
    IdempotencyConflict("k-1", JOB, "f00", "ba4"): ("'k-1'", str(JOB), "f00", "ba4"),
    UniqueViolation("uq_asset_org_job_uri"): ("uq_asset_org_job_uri",),
    LeaseLost(JOB, 7): (str(JOB), "lease 7"),
    CancelRequested(JOB): (str(JOB), "requested"),
    FileProblem("file:///a", "not_found", "there is no such file"): ("'file:///a'", "there is no such file"),
    CapabilityMissing("no roles here"): ("no roles here",),
    NotAuthenticated(): ("Authorization: Bearer",),
    NotPermitted("write_jobs"): ("write_jobs",),
    LimitReached("100 requests a second", 0.2): ("100 requests a second", "in 1 s"),
    KeysUnavailable(): ("try again",),
    UnitOfWorkMisuse("anything"): ("anything",),
    NestedUnitOfWork(): ("already open",),
    UnitOfWorkNotOpen(): ("not open",),
    UnscopedStatement("SELECT 1"): ("SELECT 1",),
    DatabaseError("disk full"): ("disk full",),
    TransientDatabaseError("deadlock"): ("deadlock",),
    ConnectionLost("server closed the connection"): ("server closed the connection",),
    SerializationConflict("could not serialize"): ("could not serialize",),
    CommitOutcomeUnknown("lost at COMMIT"): ("lost at COMMIT",),
    DatabaseUnavailable("no route"): ("no route",),
    SchemaMissing("no table"): ("no table",),
    SchemaMismatch("schema 7"): ("schema 7",),
    WallMissing("no policies"): ("no policies",),
    RoleNotGranted("no member"): ("no member",),
    DataRejected("check failed"): ("check failed",),
    WorkerHung("host:7"): ("host:7", "does not return"),
}


def drawn() -> dict[str, str | None]:
    """Return the classes of the drawing, each with the one that it hangs on."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([| ]*)(?:[|`]-- )?([A-Z]\w+)(?:  |$| \()", line):
            depth = line.index(found[2]) // 4
            path = [*path[:depth], found[2]]
            assert found[2] not in parents
            parents[found[2]] = path[-2] if depth else None
    return parents


def defined() -> dict[str, str | None]:
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, HeimdexError)]
    return {one.__name__: None if one is HeimdexError else one.__bases__[0].__name__ for one in classes}


def test_the_drawing_shows_every_class_once_below_its_parent_and_no_other() -> None:
    assert drawn() == defined()


@pytest.mark.parametrize("builtin", [ValueError, LookupError])
def test_the_drawing_says_which_are_built_in_errors_too(builtin: type[Exception]) -> None:
    said = set(re.findall(rf"(\w+) \(a {builtin.__name__}\)", errors.__doc__ or ""))
    assert said == {one.__name__ for one in map(type, SAMPLES) if builtin in one.__bases__}


@pytest.mark.parametrize("kind", [InvalidInput, InvalidPayload, InvalidSetting, UnknownJobType])
def test_whatever_breaks_a_rule_is_a_value_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)


def test_there_is_a_sample_of_every_class() -> None:
    assert {type(error).__name__ for error in SAMPLES} == set(defined())


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_the_text_of_an_error_names_its_data(error: HeimdexError) -> None:
    for word in SAMPLES[error]:
        assert word in str(error)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_reaches_another_process_whole(error: HeimdexError) -> None:
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))


def test_an_error_says_so_where_there_is_nothing_to_name() -> None:
    assert str(UnknownJobType("t", ())) == "type: 't' is not registered; known types: none"
    assert str(IllegalTransition(None, None, "claim", ())) == (
        "job None is new: claim is not possible; possible: nothing"
    )


def test_what_is_shown_already_stays_as_it_is() -> None:
    cut = shown("x" * 79)
    assert shown(Shown(cut)) == cut


def test_a_long_value_is_cut_and_says_how_long_it_was() -> None:
    assert shown("x" * 78) == f"'{'x' * 78}'"
    assert shown("x" * 79) == f"'{'x' * 79}… (81 characters)"
    assert len(str(InvalidInput("a", ["x"] * 10_000, "b"))) < 200
    assert len(str(UnknownJobType("t" * 10_000, ()))) < 200
    assert len(str(IdempotencyConflict("k" * 10_000, JOB, "f", "g"))) < 400
    assert len(str(FileProblem("file:///" + "a" * 10_000, "c", "d"))) < 200
    assert len(str(UnscopedStatement("SELECT 1" * 1_000))) < 300
