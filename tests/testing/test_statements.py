"""Counting statements."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from heimdex import InvalidInput, NewJob, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.testing import application, assert_statements, database
from tests.testing.kit import ORG, registry, sign_up

SCOPE = Tenant(ORG, actor="user@example.com")


def sign_up_many(app: Application, count: int) -> None:
    for _ in range(count):
        sign_up(app, "a@example.com")


@pytest.fixture(scope="module")
def sql() -> Iterator[Application]:
    with ExitStack() as cleanup:
        url = cleanup.enter_context(database())
        yield cleanup.enter_context(bootstrap(Settings(database_url=url), jobs=registry()))


def test_the_statements_of_the_block_are_counted_and_no_others(sql: Application) -> None:
    sign_up(sql, "a@example.com")

    with assert_statements(sql, 2) as statements:
        sign_up(sql, "b@example.com")
    sign_up(sql, "c@example.com")

    assert [statement.split()[:3] for statement in statements] == [
        ["INSERT", "INTO", "job"],
        ["INSERT", "INTO", "job_event"],
    ]


def test_reading_is_counted_too(sql: Application) -> None:
    job = sign_up(sql, "a@example.com")

    with assert_statements(sql, 1), sql.views(SCOPE) as views:
        views.history(job.id)


def test_a_statement_over_many_rows_counts_once(sql: Application) -> None:
    with assert_statements(sql, 2), sql.unit_of_work(SCOPE) as uow:
        uow.jobs.create_many(NewJob("mail.welcome", {"to": address}) for address in "abc")


def test_another_number_is_shown_with_the_statements_but_without_their_values(sql: Application) -> None:
    with pytest.raises(AssertionError) as raised, assert_statements(sql, 1):
        sign_up(sql, "secret@example.com")

    lines = str(raised.value).splitlines()
    assert lines[0] == "expected 1 statements; 2 were sent:"
    assert [line.split()[:3] for line in lines[1:]] == [["INSERT", "INTO", "job"], ["INSERT", "INTO", "job_event"]]
    assert "secret" not in str(raised.value)
    assert max(map(len, lines)) < 150


def test_many_statements_are_shown_in_part(sql: Application) -> None:
    with pytest.raises(AssertionError) as raised, assert_statements(sql, 0):
        sign_up_many(sql, 30)

    assert str(raised.value).splitlines()[-1] == "  ... and 40 more"


def test_an_error_in_the_block_is_not_covered_by_the_number(sql: Application) -> None:
    with pytest.raises(LookupError), assert_statements(sql, 3):
        raise LookupError
    with assert_statements(sql, 0):
        pass


def test_a_failure_points_at_the_line_of_the_test(sql: Application) -> None:
    with pytest.raises(AssertionError) as raised, assert_statements(sql, 1):
        pass

    assert Path(raised.traceback.filter(raised)[-1].path) == Path(__file__)


def test_an_application_in_memory_has_no_statements() -> None:
    with pytest.raises(InvalidInput, match="in memory there are no statements"):
        assert_statements(application(), 1)
