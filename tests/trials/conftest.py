"""The trials as tests: small, on each kind of database, and strict about counts only, since machines may be slow."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer
from tests.trials.command import Watch
from tests.trials.ledger import Ledger, database, opened

PATIENCE = 500.0


@pytest.fixture
def watch() -> Watch:
    return Watch(PATIENCE)


@pytest.fixture
def postgres_ledger(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Ledger]:
    with database(postgres_server) as url, opened(url, tmp_path) as ledger:
        yield ledger


@pytest.fixture(params=["postgres", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger of each kind in turn."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_ledger")
        return
    with ExitStack() as stack:
        yield stack.enter_context(opened(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path))
