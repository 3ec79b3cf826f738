"""`heimdex config`: every setting as it is here."""

import json

import pytest

from heimdex.config import variables
from tests.entrypoints.conftest import ORG, Heimdex


def test_every_setting_is_shown_with_its_variable_and_what_it_is_about(heimdex: Heimdex) -> None:
    shown = heimdex("config").out
    answer = json.loads(heimdex("config", "--json").out)

    assert {row["variable"]: row["about"] for row in answer} == variables()
    for row in answer:
        assert row["variable"] in shown
        assert row["about"] in shown


def test_values_come_from_options_and_environment(heimdex: Heimdex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_CONCURRENCY", "7")

    answer = json.loads(heimdex("config", "--json", "--org", ORG, "--debug").out)

    values = {row["setting"]: row["value"] for row in answer}
    assert (values["concurrency"], values["org"], values["debug"], values["batch"]) == (7, str(ORG), True, 100)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_password_is_not_shown(heimdex: Heimdex, form: list[str]) -> None:
    ran = heimdex("config", "--database-url", "postgresql://user:s3cr3t@host/db?password=s3cr3t", *form)

    assert ran.code == 0
    assert "postgresql+psycopg2://user:***@host/db?password=***" in ran.out
    assert "s3cr3t" not in ran.out + ran.err


def test_a_database_is_not_needed(heimdex: Heimdex) -> None:
    assert heimdex("config", "--database-url", "postgresql://127.0.0.1:1/x").code == 0
