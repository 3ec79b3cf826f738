"""Every setting: what is taken, what is refused, and that no password is ever shown."""

from typing import Any, cast
from uuid import UUID

import attrs
import pytest

from heimdex.config import Settings, load, masked, unknown, variables
from heimdex.domain.errors import InvalidSetting

ORG = "018f3c6e-0000-7000-8000-000000000001"
SECRET = "s3cr3t"  # noqa: S105 - what must not be shown

# name: (text, value, text that is refused, part of the way out)
SETTINGS: dict[str, tuple[str, object, str, str]] = {
    "database_url": ("sqlite:///x.db", "sqlite:///x.db", "mysql://h/d", "postgresql://user@host/database"),
    "org": (ORG, UUID(ORG), "acme", "give a UUID"),
    "env": ("production", "production", "prod", "local, production"),
    "jobs": ("app.jobs:jobs", "app.jobs:jobs", "app.jobs", "module:attribute"),
    "concurrency": ("8", 8, "0", "from 1 to 1000"),
    "batch": ("50", 50, "many", "from 1 to 1000"),
    "lease_seconds": ("60", 60.0, "0.5", "from 1 to 86400"),
    "renew_seconds": ("0.5", 0.5, "nan", "from 0.1 to 43200"),
    "sweep_seconds": ("1", 1.0, "0", "from 0.1 to 3600"),
    "poll_seconds": ("0.05", 0.05, "-1", "from 0.01 to 3600"),
    "grace_seconds": ("0", 0.0, "inf", "from 0 to 86400"),
    "pool_size": ("1", 1, "1.5", "from 1 to 1000"),
    "max_overflow": ("0", 0, "-1", "from 0 to 1000"),
    "pool_timeout_seconds": ("3", 3.0, "0", "from 0.1 to 3600"),
    "pool_recycle_seconds": ("600", 600.0, "", "from 1 to 86400"),
    "connect_timeout_seconds": ("5", 5, "1", "from 2 to 3600"),
    "application_name": ("shop api", "shop api", "é", "1 to 63 printable characters"),
    "statement_timeout_seconds": ("5", 5.0, "soon", "from 0.1 to 3600"),
    "lock_timeout_seconds": ("2", 2.0, "5s", "from 0.1 to 3600"),
    "retry_tries": ("1", 1, "21", "from 1 to 20"),
    "retry_shortest_seconds": ("0", 0.0, "601", "from 0 to 600"),
    "retry_longest_seconds": ("20", 20.0, "x", "from 0 to 600"),
    "api_auth": ("jwks", "jwks", "none", "dev, jwks"),
    "api_secret": ("x" * 32, "x" * 32, "***", "at least 32 bytes"),
    "api_issuer": ("https://id.example.com/", "https://id.example.com/", "", "1 to 2000 printable characters"),
    "api_audience": ("heimdex", "heimdex", "a\nb", "1 to 2000 printable characters"),
    "api_jwks_url": ("https://h/keys", "https://h/keys", "http://h/keys", "https://"),
    "api_algorithm": ("ES256", "ES256", "HS256", "RS256, ES256"),
    "api_org_claim": ("org", "org", "", "1 to 2000 printable characters"),
    "api_roles_claim": ("https://example.com/roles", "https://example.com/roles", "", "1 to 2000 printable characters"),
    "api_requests_per_second": ("5", 5, "0", "from 1 to 1000000"),
    "api_queued_jobs": ("10", 10, "0", "from 1 to"),
    "api_body_seconds": ("1", 1.0, "0", "from 0.1 to 3600"),
    "api_cors_origins": ("https://a.example", ("https://a.example",), "*", "give origins"),
    "api_url": ("https://h", "https://h", "", "1 to 2000 printable characters"),
    "api_token": ("a.b.c", "a.b.c", "***", "give a token"),
    "metrics_token": ("y" * 32, "y" * 32, "***", "at least 32 bytes"),
    "debug": ("yes", True, "maybe", "give 1 or 0"),
}


def _names() -> list[str]:
    return [field.name for field in attrs.fields(cast("Any", Settings))]


def test_every_setting_is_tried_here() -> None:
    assert _names() == list(SETTINGS)


def test_without_an_environment_every_setting_has_a_default() -> None:
    assert load({}) == load({"PATH": "/bin", "HEIMDEX_UNKNOWN": "1"})


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_read_from_its_variable(name: str) -> None:
    text, value, _, _ = SETTINGS[name]

    assert getattr(load({f"HEIMDEX_{name.upper()}": text}), name) == value


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_value_is_refused_with_variable_value_and_way_out(name: str) -> None:
    _, _, text, remedy = SETTINGS[name]
    variable = f"HEIMDEX_{name.upper()}"

    with pytest.raises(InvalidSetting) as refused:
        load({variable: text})

    assert refused.value.field == variable
    assert repr(text) in str(refused.value)
    assert remedy in str(refused.value)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_is_about(name: str) -> None:
    assert variables()[f"HEIMDEX_{name.upper()}"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgres://u@h/d", "postgresql+psycopg2://u@h/d"),
        ("postgresql://u@h/d", "postgresql+psycopg2://u@h/d"),
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg2://u@h/d"),
        ("sqlite:////srv/x.db", "sqlite:////srv/x.db"),
        ("memory://", "memory://"),
    ],
)
def test_a_database_url_is_brought_to_the_driver_that_is_used(given: str, meant: str) -> None:
    assert load({"HEIMDEX_DATABASE_URL": given}).database_url == meant


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        "postgresql",
        "psycopg://h/d",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x?mode=memory",
    ],
)
def test_a_database_url_that_names_nothing_usable_is_refused(given: str) -> None:
    with pytest.raises(InvalidSetting, match="HEIMDEX_DATABASE_URL"):
        load({"HEIMDEX_DATABASE_URL": given})


def test_only_memory_is_not_kept() -> None:
    assert [load({"HEIMDEX_DATABASE_URL": url}).kept for url in ("memory://", "sqlite:///x.db")] == [False, True]


def test_a_lease_is_long_enough_for_two_renewals() -> None:
    with pytest.raises(InvalidSetting, match=r"HEIMDEX_RENEW_SECONDS: 10\.0 .* at most half of HEIMDEX_LEASE_SECONDS"):
        load({"HEIMDEX_LEASE_SECONDS": "19"})


def test_settings_cannot_be_assigned() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load({}).concurrency = 5  # type: ignore[misc]  # what is tried


def test_changed_settings_are_checked_like_those_of_the_environment() -> None:
    assert load({}).changed(poll_seconds=0.5).poll_seconds == 0.5
    with pytest.raises(InvalidSetting, match="HEIMDEX_POLL_SECONDS"):
        load({}).changed(poll_seconds=0)


URLS_WITH_PASSWORDS = [
    f"postgresql://user:{SECRET}@host/db",
    f"postgresql://:{SECRET}@host/db",
    f"postgresql://user:{SECRET}%40{SECRET}@host/db",
    f"postgresql://user:{SECRET}/{SECRET}@host/db",
    f"postgresql://user:{SECRET}://{SECRET}@host/db",
    f"postgresql://user:{SECRET}:{SECRET}@host/db",
    f"postgresql://user@host/db?password={SECRET}",
    f"postgresql:///db?host=/tmp&PASSWORD={SECRET}&sslmode=require",
    f"postgresql://user@host/db?sslpassword={SECRET}",
]
BAD_URLS_WITH_PASSWORDS = [
    f"mysql://user:{SECRET}@host/db",
    f"user:{SECRET}@host/db",
    f"postgresql:/user:{SECRET}@host/db",
    f"sqlite://user:{SECRET}@",
    f"sqlite:///?mode=memory&password={SECRET}",
]


@pytest.mark.parametrize("url", URLS_WITH_PASSWORDS)
def test_a_password_is_shown_neither_by_repr_nor_by_shown(url: str) -> None:
    settings = load({"HEIMDEX_DATABASE_URL": url})

    assert SECRET in settings.database_url
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in str(settings.shown())


@pytest.mark.parametrize("url", BAD_URLS_WITH_PASSWORDS)
def test_a_password_is_not_shown_by_the_error_about_its_url(url: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load({"HEIMDEX_DATABASE_URL": url})

    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value)


def test_a_masked_url_still_says_where_the_database_is() -> None:
    assert (
        masked("postgresql://user:x@host:5432/db?sslmode=require")
        == "postgresql://user:***@host:5432/db?sslmode=require"
    )
    assert masked("sqlite:////srv/heimdex.db") == "sqlite:////srv/heimdex.db"


def test_unknown_variables_come_with_the_one_that_they_resemble() -> None:
    given = {"HEIMDEX_CONCURENCY": "1", "HEIMDEX_ZZZ": "1", "HEIMDEX_ORG": ORG, "OTHER": "1"}

    assert unknown(given) == {"HEIMDEX_CONCURENCY": "HEIMDEX_CONCURRENCY", "HEIMDEX_ZZZ": None}


def test_an_at_sign_in_a_password_has_to_be_encoded() -> None:
    with pytest.raises(InvalidSetting, match="%40") as refused:
        Settings(database_url="postgresql://user:s3cret@pw@host/x")

    assert "s3cret" not in str(refused.value)
    assert Settings(database_url="postgresql://user:s3cret%40pw@host/x").database_url.endswith("s3cret%40pw@host/x")
