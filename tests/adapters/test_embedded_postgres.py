"""The server of a demo, as it is when nobody asks for anything; tests/house holds how it starts and ends."""

from threading import Thread

import pytest
from sqlalchemy import NullPool, create_engine

from heimdex.adapters.embedded_postgres import EmbeddedPostgres
from tests.postgres_server import skip_or_fail


def test_a_server_that_is_asked_for_nothing_keeps_what_it_commits_and_is_gone_with_its_folder() -> None:
    try:
        with EmbeddedPostgres() as server:
            engine = create_engine(server.url, poolclass=NullPool)
            with engine.connect() as connection:
                names = ("fsync", "full_page_writes", "synchronous_commit")
                settings = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
            assert server.folder.is_dir()
    except ModuleNotFoundError:
        skip_or_fail("the package embedded-postgres is not installed")

    assert settings == ["on", "on", "on"]
    assert not server.folder.exists()


def test_before_it_starts_it_is_nowhere() -> None:
    with pytest.raises(RuntimeError, match="start the server first"):
        _ = EmbeddedPostgres().url


def test_only_the_main_thread_starts_it() -> None:
    refused: list[RuntimeError] = []

    def start() -> None:
        try:
            EmbeddedPostgres().start()
        except RuntimeError as error:
            refused.append(error)

    thread = Thread(target=start)
    thread.start()
    thread.join()

    assert len(refused) == 1
