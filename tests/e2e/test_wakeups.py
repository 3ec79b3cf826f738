"""A worker that hardly ever polls finds at once what other processes create."""

from functools import partial

from heimdex import Status, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from tests.e2e.conftest import ORG, Workers, run, wait_until

SCOPE = Tenant(ORG, actor="user@example.com")


def _has_succeeded(app: Application, number: int) -> bool:
    with app.views(SCOPE) as views:
        return views.statistics().by_status[Status.SUCCEEDED] == number


def _create(url: str) -> None:
    done = run("job", "create", "wait", '{"seconds": 0}', DATABASE_URL=url, ORG=str(ORG))
    assert done.returncode == 0, done.stderr


def test_a_job_from_the_command_line_is_run_long_before_the_next_poll(postgres_url: str, workers: Workers) -> None:
    with bootstrap(load({"HEIMDEX_DATABASE_URL": postgres_url})) as app:
        app.schema.upgrade()
        workers.start(DATABASE_URL=postgres_url, JOBS="tests.e2e.tasks:jobs", POLL_SECONDS="3600")
        # The first may be found by the look that listening begins with, the others by nothing but a wake-up.
        for number in range(1, 4):
            _create(postgres_url)
            wait_until(partial(_has_succeeded, app, number))
