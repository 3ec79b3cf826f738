"""What row-level security costs one unit of work on PostgreSQL: statements sent, and microseconds, with it and without.

Both connect as a login that is neither superuser nor owner. From the project's folder:

PYTHONPATH=. .venv/bin/python bench/unit_of_work_rls.py [ROUNDS]
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from statistics import median
from uuid import UUID

from psycopg2 import sql
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from heimdex import Tenant
from heimdex.adapters.schema import Schema
from heimdex.adapters.sql_store import SqlStore
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.service_layer.ports import Duty
from tests.postgres_server import PostgresServer, start_server
from tests.sql_stores import admin_connection, migrated_postgres
from tests.walled_stores import name_of, new_login

TENANT = Tenant(UUID(int=1), actor="bench")
ROUNDS = 1_000


def main(rounds: int) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(start_server())
        apps = {on: stack.enter_context(application(server, on=on)) for on in (False, True)}
        sys.stdout.write(f"{'':>14} {'off':>8} {'on':>8}   microseconds, median of {rounds}; statements in brackets\n")
        for name in acts(apps[False]):
            figures = measure({on: acts(app)[name] for on, app in apps.items()}, rounds)
            sent = [statements(app, acts(app)[name]) for app in apps.values()]
            assert sent[0] == sent[1]
            sys.stdout.write(f"{name:>14} {figures[False]:>8.0f} {figures[True]:>8.0f}   ({sent[0]})\n")


@contextmanager
def application(server: PostgresServer, *, on: bool) -> Iterator[Application]:
    admin_url = migrated_postgres(server, test_clock=False)
    with new_login(admin_url) as url:
        if on:
            Schema(admin_url).make_roles(name_of(url), duty=Duty.API)
        else:
            grant_everything(admin_url, name_of(url))
        with bootstrap(Settings(database_url=url.replace("postgresql+psycopg2", "postgresql"))) as app:
            yield app
    server.drop_database(make_url(admin_url).database or "")


def grant_everything(admin_url: str, login: str) -> None:
    admin = admin_connection(admin_url)
    with admin.cursor() as cursor:
        cursor.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(login)))
    admin.close()


_keys = count()


def acts(app: Application) -> Mapping[str, Callable[[], object]]:
    def create() -> None:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.create("t", {"n": 1})

    def create_keyed() -> None:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.create("t", {"n": 1}, idempotency_key=f"k-{next(_keys)}")

    def find() -> None:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.find(UUID(int=1))

    def page() -> None:
        with app.views(TENANT) as views:
            views.histories([UUID(int=1)])

    return {"create": create, "create by key": create_keyed, "find": find, "view": page}


def measure(rival: Mapping[bool, Callable[[], object]], rounds: int) -> dict[bool, float]:
    """Return the median of each, taken in turns so that a busy machine is busy for both."""
    samples: dict[bool, list[float]] = {on: [] for on in rival}
    for _ in range(rounds):
        for on, act in rival.items():
            began = time.perf_counter()
            act()
            samples[on].append(time.perf_counter() - began)
    return {on: median(taken) * 1e6 for on, taken in samples.items()}


def statements(app: Application, act: Callable[[], object]) -> int:
    """Return how many statements one act sends to the server."""
    sent: list[str] = []
    assert isinstance(app.store, SqlStore)
    engine: Engine = app.store.database.engine

    def note(*context: object) -> None:
        sent.append(str(context[2]))

    event.listen(engine, "before_cursor_execute", note)
    act()
    event.remove(engine, "before_cursor_execute", note)
    return len(sent)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
