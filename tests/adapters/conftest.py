"""Databases whose clock is that of the machine, as the process that renews leases needs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from heimdex.adapters.renewing import ProcessRenewer
from heimdex.adapters.schema import Schema
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.service_layer.ports import Duty
from tests.adapters.renewing_steps import renewing
from tests.postgres_server import PostgresServer
from tests.sql_stores import migrated_postgres
from tests.walled_stores import name_of, new_login


@pytest.fixture(scope="module")
def bare_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a database whose clock is the server's."""
    url = migrated_postgres(postgres_server, test_clock=False)
    yield url
    postgres_server.drop_database(make_url(url).database or "")


@pytest.fixture(scope="module")
def bare_walled_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a login that is nothing but a member of heimdex_worker."""
    admin_url = migrated_postgres(postgres_server, test_clock=False)
    Schema(admin_url).make_roles()
    with new_login(admin_url) as url:
        Schema(admin_url).make_roles(name_of(url), duty=Duty.WORKER)
        yield url
    postgres_server.drop_database(make_url(admin_url).database or "")


@pytest.fixture
def bare_sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'ledger #1 of 2.db'}"
    Schema(url).upgrade()
    return url


@pytest.fixture(params=["bare_sqlite_url", "bare_postgres_url", "bare_walled_url"])
def bare_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def app(bare_url: str) -> Iterator[Application]:
    with bootstrap(Settings(database_url=bare_url)) as app:
        yield app


@pytest.fixture
def renewer(app: Application) -> Iterator[ProcessRenewer]:
    with renewing(app) as renewer:
        yield renewer
