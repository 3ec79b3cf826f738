"""Databases for one test."""

from pathlib import Path

import psycopg2
import pytest

from heimdex import DatabaseUnavailable, InvalidInput, InvalidSetting, Status
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings, file_url
from heimdex.testing import SimulatedClock, assert_history, assert_statements, crash, database, drain, run_out
from tests.postgres_server import PostgresServer
from tests.sql_stores import admin_connection
from tests.testing.kit import registry, sign_up


def use(url: str) -> None:
    """Create and run a job."""
    with bootstrap(Settings(database_url=url), jobs=registry()) as app:
        job = sign_up(app, "a@example.com")
        assert [ended.status for ended in drain(app)] == [Status.SUCCEEDED]
        assert_history(app, job.id, ["create", "claim", "succeed"])


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_without_a_url_it_is_an_sqlite_file_in_a_folder_that_is_removed() -> None:
    with database() as url:
        use(url)
        assert path_of(url).exists()

    assert not path_of(url).parent.exists()


def test_an_sqlite_file_is_made_at_the_path_of_the_url_and_removed(tmp_path: Path) -> None:
    with database(file_url(tmp_path / "heimdex.db")) as url:
        app = bootstrap(Settings(database_url=url), jobs=registry())
        sign_up(app, "a@example.com")

        assert path_of(url) == tmp_path / "heimdex.db"
        assert len(list(tmp_path.iterdir())) == 3

    assert list(tmp_path.iterdir()) == []
    app.close()


def test_a_file_that_exists_is_not_touched(tmp_path: Path) -> None:
    kept = tmp_path / "heimdex.db"
    kept.write_text("precious")

    with pytest.raises(InvalidInput, match="name a file that does not exist"), database(file_url(kept)):
        pass

    assert kept.read_text() == "precious"


def test_it_is_removed_when_the_test_fails(tmp_path: Path) -> None:
    with pytest.raises(LookupError), database(file_url(tmp_path / "heimdex.db")):
        raise LookupError

    assert list(tmp_path.iterdir()) == []


def test_memory_needs_no_database() -> None:
    with database("memory://") as url:
        use(url)


def test_a_url_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="give postgresql://"), database("mysql://localhost/x"):
        pass


def test_a_folder_that_is_not_there_is_an_error_of_the_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="folder"), database(file_url(tmp_path / "missing" / "heimdex.db")):
        pass


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable), database("postgresql://postgres@127.0.0.1:1/postgres"):
        pass


def test_on_a_server_each_one_is_new_and_dropped_under_its_connections(postgres_server: PostgresServer) -> None:
    server_url = postgres_server.url().replace("postgresql+psycopg2", "postgresql")
    with database(server_url) as first, database(server_url) as second:
        assert len({first, second, postgres_server.url()}) == 3
        use(first)
        left_open = admin_connection(second)

    for url in (first, second):
        with pytest.raises(psycopg2.OperationalError, match="does not exist"):
            admin_connection(url)
    left_open.close()


def test_on_a_server_statements_are_counted_and_workers_die(postgres_server: PostgresServer) -> None:
    with (
        database(postgres_server.url()) as url,
        bootstrap(Settings(database_url=url), jobs=registry()) as app,
    ):
        sign_up(app, "a@example.com")
        with assert_statements(app, 1):
            job = sign_up(app, "b@example.com")
        drain(app, limit=2)
        assert_history(app, job.id, ["create", "claim", "succeed"])

        last = sign_up(app, "c@example.com")
        assert crash(app, "before_finish").id == last.id
        assert_history(app, last.id, ["create", "claim"])


def test_on_a_server_which_has_a_clock_of_its_own_nothing_is_run_out(postgres_server: PostgresServer) -> None:
    with (
        database(postgres_server.url()) as url,
        bootstrap(Settings(database_url=url), jobs=registry(), clock=SimulatedClock()) as app,
    ):
        sign_up(app, "nobody")

        with pytest.raises(AssertionError, match="its database has a clock of its own"):
            run_out(app)
