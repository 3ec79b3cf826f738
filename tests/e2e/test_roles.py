"""`heimdex db roles` on the one database that has roles."""

import json

from heimdex.domain.errors import RoleNotGranted
from tests.e2e.conftest import ORG, run
from tests.walled_stores import name_of, new_login


def test_a_login_is_let_in_for_one_duty_and_kept_from_the_other(postgres_url: str) -> None:
    without_tables = run("db", "roles", DATABASE_URL=postgres_url)
    run("db", "upgrade", DATABASE_URL=postgres_url)
    unknown = run("db", "roles", "--login", "nobody at all", DATABASE_URL=postgres_url)
    with new_login(postgres_url) as login_url:
        login = name_of(login_url)
        made = run("db", "roles", "--login", login, "--as", "api", "--json", DATABASE_URL=postgres_url)
        again = run("db", "roles", DATABASE_URL=postgres_url)
        for_one = run("queue", "list", DATABASE_URL=login_url, ORG=str(ORG))
        for_all = run("queue", "list", "--everybody", "--json", DATABASE_URL=login_url)

    assert (without_tables.returncode, unknown.returncode) == (3, 2)
    assert "run `heimdex db upgrade`" in without_tables.stderr
    assert "login: 'nobody at all' is not accepted" in unknown.stderr
    answer = json.loads(made.stdout)
    assert (made.returncode, answer["login"]) == (0, login)
    assert {"job", "job_event", "asset"} <= set(answer["tables"])
    assert again.stdout.startswith("new roles  none: they were there")
    assert (for_one.returncode, for_one.stderr) == (0, "")
    assert (for_all.returncode, json.loads(for_all.stderr)["error"]) == (3, RoleNotGranted.__name__)
