"""`heimdex db`: the schema is made, looked at and checked."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.entrypoints.conftest import Heimdex


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


def _move_to(url: str, revision: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE heimdex_version SET version_num = ?", (revision,))


def test_an_upgrade_makes_the_schema_and_does_nothing_the_second_time(heimdex: Heimdex, empty_url: str) -> None:
    first = json.loads(heimdex("db", "upgrade", "--database-url", empty_url, "--json").out)
    second = json.loads(heimdex("db", "upgrade", "--database-url", empty_url, "--json").out)

    assert first["before"] is None
    assert first["current"] == first["head"] == second["before"] == second["current"]
    assert heimdex("db", "check", "--database-url", empty_url).code == 0


def test_an_upgrade_goes_to_the_revision_that_is_given(heimdex: Heimdex, empty_url: str) -> None:
    answer = json.loads(heimdex("db", "upgrade", "0001", "--database-url", empty_url, "--json").out)

    assert answer["current"] == "0001"


def test_a_revision_that_does_not_exist_is_bad_input(heimdex: Heimdex, empty_url: str) -> None:
    ran = heimdex("db", "upgrade", "nowhere", "--database-url", empty_url)

    assert (ran.code, ran.out) == (2, "")
    assert "revision: 'nowhere' is not accepted; give head or one of 0001" in ran.err


def test_current_shows_the_revision_and_the_one_needed(heimdex: Heimdex, url: str) -> None:
    ran = heimdex("db", "current", "--database-url", url)
    answer = json.loads(heimdex("db", "current", "--database-url", url, "--json").out)

    assert ran.code == 0
    assert ran.out.split() == ["current", answer["head"], "head", answer["head"]]
    assert answer["current"] == answer["head"]


def test_a_missing_schema_is_found_by_the_check(heimdex: Heimdex, empty_url: str) -> None:
    ran = heimdex("db", "check", "--database-url", empty_url, "--json")

    assert (ran.code, ran.err) == (1, "")
    answer = json.loads(ran.out)
    assert answer["current"] is None
    assert "run `heimdex db upgrade`" in answer["problem"]


def test_a_newer_schema_is_found_by_the_check_and_stops_everything_else(heimdex: Heimdex, url: str) -> None:
    _move_to(url, "9999")

    check = heimdex("db", "check", "--database-url", url)
    upgrade = heimdex("db", "upgrade", "--database-url", url)
    jobs = heimdex("job", "list", "--database-url", url, "--org", "018f3c6e-0000-7000-8000-000000000001")

    assert check.code == 1
    assert "which this Heimdex" in check.out
    for ran in (upgrade, jobs):
        assert (ran.code, ran.out) == (3, "")
        assert "9999" in ran.err
        assert "install a newer Heimdex" in ran.err


@pytest.mark.parametrize("command", ["current", "check", "upgrade"])
def test_a_file_that_is_no_database_is_a_database_error(heimdex: Heimdex, tmp_path: Path, command: str) -> None:
    (tmp_path / "text.db").write_text("this is no database, and it is long enough to be looked at" * 20)

    ran = heimdex("db", command, "--database-url", f"sqlite:///{tmp_path / 'text.db'}")

    assert (ran.code, ran.out) == (3, "")


def test_memory_has_the_schema_that_it_needs(heimdex: Heimdex) -> None:
    assert heimdex("db", "check", "--database-url", "memory://").code == 0


@pytest.mark.parametrize("place", ["sqlite:///ledger.db", "memory://"])
def test_a_database_without_roles_says_so(heimdex: Heimdex, url: str, place: str) -> None:
    ran = heimdex("db", "roles", "--login", "app", "--as", "api", "--database-url", place)

    assert (ran.code, ran.out) == (2, "")
    assert "roles" in ran.err


def test_a_duty_that_is_none_is_bad_input(heimdex: Heimdex, url: str) -> None:
    ran = heimdex("db", "roles", "--login", "app", "--as", "owner", "--database-url", url)

    assert (ran.code, ran.out) == (2, "")
    assert "'api', 'worker', 'both'" in ran.err
