"""Settings: the one place that gives the environment meaning. Frozen, typed, checked; an error names the variable."""

import math
import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform
from uuid import UUID

import environ
from attrs import asdict, evolve, fields

from heimdex.domain.errors import InvalidSetting

PREFIX = "HEIMDEX"
ENVIRONMENTS = ("local", "production")
AUTHENTICATIONS = ("dev", "jwks")
ALGORITHMS = ("RS256", "ES256")

Value = TypeVar("Value")

_SCHEMES = {
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "postgresql+psycopg2": "postgresql+psycopg2",
    "sqlite": "sqlite",
    "memory": "memory",
}
_URL_REMEDY = "give postgresql://user@host/database, sqlite:///file.db or memory://"
_JOBS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# PostgreSQL cuts a longer one, and shows others as question marks.
_APPLICATION_NAME = re.compile(r"[ -~]{1,63}")
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})
_MASK = "***"
_ORIGIN = re.compile(r"https?://[\w.-]+(:\d{1,5})?")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_LONGEST_TEXT = 2_000
_TOKEN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")
# As many bytes as its digest has: RFC 7518, section 3.2.
_SHORTEST_SECRET = 32
_SECRETS = ("api_secret", "api_token", "metrics_token")


def _setting(name: str, *, default: object, read: Callable[[str, Any], object], about: str) -> Any:  # noqa: ANN401 - stands where a value of the annotated type will be
    """Declare a setting. `read` gets the variable's name and its text, or a value of the right type from code."""
    variable = f"{PREFIX}_{name.upper()}"
    return environ.var(default=default, converter=lambda value: read(variable, value), help=about)


def masked(url: str) -> str:
    """Return a URL, or what was meant to be one, without its passwords."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    name, at, place = rest.rpartition("@")
    user, colon, _ = name.partition(":")
    shown = f"{scheme}{separator}{user}{colon}{_MASK if colon else ''}{at}{place}"
    return re.sub(r"(?i)(pass\w*)=[^&]*", rf"\1={_MASK}", shown)


def file_url(path: Path) -> str:
    """Return the URL of the embedded database in a file."""
    return f"sqlite:///{path}"


def _names_a_file(rest: str) -> bool:
    path, _, query = rest.partition("?")
    return path.startswith("/") and path not in {"/", "/:memory:"} and "mode=memory" not in query


def _database_url(variable: str, value: str) -> str:
    scheme, separator, rest = str(value).partition("://")
    if not separator or scheme not in _SCHEMES:
        raise InvalidSetting(variable, masked(str(value)), _URL_REMEDY)
    if scheme == "sqlite" and not _names_a_file(rest):
        raise InvalidSetting(
            variable, masked(value), "name a file (sqlite:///file.db); memory:// is the store that is not kept"
        )
    if scheme != "sqlite" and rest.partition("?")[0].count("@") > 1:
        # The driver and we would read it differently, and its error would show a part of the password.
        raise InvalidSetting(variable, masked(value), "write each @ of a user's name or password as %40")
    return f"{_SCHEMES[scheme]}://{rest}"


def _org(variable: str, value: str | UUID | None) -> UUID | None:
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except ValueError:
        raise InvalidSetting(variable, value, "give a UUID, such as 018f3c6e-0000-7000-8000-000000000001") from None


def _one_of(names: tuple[str, ...]) -> Callable[[str, Any], str]:
    def read(variable: str, value: str) -> str:
        if value not in names:
            raise InvalidSetting(variable, value, f"give one of {', '.join(names)}")
        return value

    return read


def _text(variable: str, value: str | None) -> str | None:
    if value is not None and not (value.isprintable() and 0 < len(value) <= _LONGEST_TEXT):
        raise InvalidSetting(variable, value, f"give 1 to {_LONGEST_TEXT} printable characters")
    return value


def _token(variable: str, value: str | None) -> str | None:
    if value is not None and not _TOKEN.fullmatch(value):
        raise InvalidSetting(variable, _MASK, "give a token, such as `heimdex token` prints")
    return value


def _name(variable: str, value: str) -> str:
    return _text(variable, value) or ""


def _secret(variable: str, value: str | None) -> str | None:
    if value is not None and len(value.encode()) < _SHORTEST_SECRET:
        raise InvalidSetting(variable, _MASK, f"give at least {_SHORTEST_SECRET} bytes")
    return value


def _keys_url(variable: str, value: str | None) -> str | None:
    if value is None:
        return None
    scheme, separator, rest = value.partition("://")
    host = rest.partition("/")[0].rpartition(":")[0] or rest.partition("/")[0]
    if not separator or scheme not in {"https", "http"} or (scheme == "http" and host not in _LOOPBACK):
        raise InvalidSetting(variable, masked(value), "give an https:// URL; http:// only on the loopback interface")
    return value


def _origins(variable: str, value: str | tuple[str, ...]) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidSetting(variable, origin, "give origins such as https://app.example.com, with commas between")
    return origins


def _application_name(variable: str, value: str) -> str:
    if not _APPLICATION_NAME.fullmatch(value):
        raise InvalidSetting(variable, value, "give 1 to 63 printable characters of ASCII")
    return value


def _jobs(variable: str, value: str | None) -> str | None:
    if value is not None and not _JOBS.fullmatch(value):
        raise InvalidSetting(variable, value, "give module:attribute of a JobRegistry, such as myapp.jobs:jobs")
    return value


def _flag(variable: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text not in _YES | _NO:
        raise InvalidSetting(variable, value, "give 1 or 0")
    return text in _YES


def _seconds(low: float, high: float) -> Callable[[str, Any], float]:
    def read(variable: str, value: str | float) -> float:
        number = _number(value, float)
        if number is None or not low <= number <= high:
            raise InvalidSetting(variable, value, f"give a number of seconds from {low:g} to {high:g}")
        return number

    return read


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def read(variable: str, value: str | int) -> int:
        number = _number(value, int)
        if number is None or not low <= number <= high:
            raise InvalidSetting(variable, value, f"give a whole number from {low} to {high}")
        return number

    return read


def _number(value: object, kind: Callable[[str], Value]) -> Value | None:
    try:
        number = kind(str(value))
    except ValueError:
        return None
    return number if math.isfinite(cast("float", number)) else None


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(_setting,))
def _from_environment(cls: type[Value]) -> type[Value]:
    return environ.config(prefix=PREFIX, frozen=True)(cls)


@_from_environment
class Settings:
    """How Heimdex runs here. Every one has a default; HEIMDEX_<NAME> in the environment changes it."""

    database_url: str = _setting(
        "database_url", default="sqlite:///heimdex.db", read=_database_url, about="where the ledger is"
    )
    org: UUID | None = _setting("org", default=None, read=_org, about="the organisation that commands act for")
    env: str = _setting("env", default="local", read=_one_of(ENVIRONMENTS), about="local or production")
    jobs: str | None = _setting("jobs", default=None, read=_jobs, about="module:attribute of a JobRegistry")
    concurrency: int = _setting("concurrency", default=4, read=_whole(1, 1_000), about="jobs that run at a time")
    batch: int = _setting("batch", default=100, read=_whole(1, 1_000), about="jobs held or finished at a time")
    lease_seconds: float = _setting(
        "lease_seconds", default=30, read=_seconds(1, 86_400), about="how long a silent worker keeps a job"
    )
    renew_seconds: float = _setting(
        "renew_seconds", default=10, read=_seconds(0.1, 43_200), about="between renewals of leases"
    )
    sweep_seconds: float = _setting(
        "sweep_seconds", default=5, read=_seconds(0.1, 3_600), about="between searches for expired leases"
    )
    poll_seconds: float = _setting(
        "poll_seconds", default=1, read=_seconds(0.01, 3_600), about="between looks for work when nobody wakes us"
    )
    grace_seconds: float = _setting(
        "grace_seconds", default=20, read=_seconds(0, 86_400), about="that running jobs get when a worker stops"
    )
    pool_size: int = _setting("pool_size", default=5, read=_whole(1, 1_000), about="connections kept open")
    max_overflow: int = _setting("max_overflow", default=10, read=_whole(0, 1_000), about="connections beyond them")
    pool_timeout_seconds: float = _setting(
        "pool_timeout_seconds", default=30, read=_seconds(0.1, 3_600), about="longest wait for a free connection"
    )
    pool_recycle_seconds: float = _setting(
        "pool_recycle_seconds", default=300, read=_seconds(1, 86_400), about="age at which a connection is replaced"
    )
    connect_timeout_seconds: int = _setting(
        "connect_timeout_seconds", default=10, read=_whole(2, 3_600), about="longest wait for a server to answer"
    )
    application_name: str = _setting(
        "application_name", default="heimdex", read=_application_name, about="what PostgreSQL calls our connections"
    )
    statement_timeout_seconds: float = _setting(
        "statement_timeout_seconds",
        default=30,
        read=_seconds(0.1, 3_600),
        about="longest statement; PostgreSQL ends a transaction that idles twice as long",
    )
    lock_timeout_seconds: float = _setting(
        "lock_timeout_seconds", default=5, read=_seconds(0.1, 3_600), about="longest wait for a lock"
    )
    retry_tries: int = _setting(
        "retry_tries",
        default=3,
        read=_whole(1, 20),
        about="how often a command is tried when the database rolls it back",
    )
    retry_shortest_seconds: float = _setting(
        "retry_shortest_seconds", default=1, read=_seconds(0, 600), about="the wait before the second try; it doubles"
    )
    retry_longest_seconds: float = _setting(
        "retry_longest_seconds", default=10, read=_seconds(0, 600), about="the longest wait between two tries"
    )
    api_auth: str = _setting(
        "api_auth",
        default="dev",
        read=_one_of(AUTHENTICATIONS),
        about="dev: tokens that `heimdex token` makes; jwks: an issuer's",
    )
    api_secret: str | None = _setting(
        "api_secret", default=None, read=_secret, about="what tokens of dev are signed with"
    )
    api_issuer: str | None = _setting("api_issuer", default=None, read=_text, about="who must have issued a token")
    api_audience: str | None = _setting("api_audience", default=None, read=_text, about="for whom a token must be")
    api_jwks_url: str | None = _setting(
        "api_jwks_url", default=None, read=_keys_url, about="where the issuer's public keys are"
    )
    api_algorithm: str = _setting(
        "api_algorithm", default="RS256", read=_one_of(ALGORITHMS), about="what the issuer signs with"
    )
    api_org_claim: str = _setting(
        "api_org_claim", default="org_id", read=_name, about="the claim that holds the organisation's UUID"
    )
    api_roles_claim: str = _setting(
        "api_roles_claim", default="roles", read=_name, about="the claim that lists viewer, operator, admin"
    )
    api_requests_per_second: int = _setting(
        "api_requests_per_second", default=100, read=_whole(1, 1_000_000), about="requests of one organisation"
    )
    api_queued_jobs: int = _setting(
        "api_queued_jobs", default=100_000, read=_whole(1, 2**31), about="jobs of one organisation that may wait"
    )
    api_body_seconds: float = _setting(
        "api_body_seconds", default=10, read=_seconds(0.1, 3_600), about="longest wait for the whole of a request"
    )
    api_cors_origins: tuple[str, ...] = _setting(
        "api_cors_origins", default=(), read=_origins, about="origins whose pages may call the API"
    )
    api_url: str | None = _setting("api_url", default=None, read=_text, about="the API that commands go to")
    api_token: str | None = _setting("api_token", default=None, read=_token, about="the token that commands send")
    metrics_token: str | None = _setting(
        "metrics_token", default=None, read=_secret, about="the token with which /metrics is read"
    )
    debug: bool = _setting("debug", default=False, read=_flag, about="tracebacks with errors")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"

    def __attrs_post_init__(self) -> None:
        # Two renewals may fail before a lease runs out.
        if self.renew_seconds > self.lease_seconds / 2:
            raise InvalidSetting(
                f"{PREFIX}_RENEW_SECONDS",
                self.renew_seconds,
                f"give at most half of {PREFIX}_LEASE_SECONDS ({self.lease_seconds:g})",
            )

    @property
    def kept(self) -> bool:
        """Whether the ledger outlives this process, so that others can work on it."""
        return not self.database_url.startswith("memory:")

    def changed(self, **values: object) -> "Settings":
        """Return these settings with some in place of others, checked as those of the environment are."""
        return cast("Settings", evolve(cast("Any", self), **values))

    def shown(self) -> dict[str, object]:
        """Return every setting by name, fit to be printed: without passwords."""
        values: dict[str, object] = asdict(cast("Any", self))
        hidden = {name: _MASK for name in _SECRETS if values[name] is not None}
        return values | hidden | {"database_url": masked(self.database_url)}


def variables() -> dict[str, str]:
    """Return the variables that Heimdex reads, each with what it is about."""
    declared = fields(cast("Any", Settings))
    return {f"{PREFIX}_{field.name.upper()}": field.metadata["environ_config"].help for field in declared}


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from an environment; None is that of this process.

    Raises:
        InvalidSetting: names the variable, its value and what is accepted.
    """
    return environ.to_config(Settings, dict(os.environ if environment is None else environment))


def unknown(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the HEIMDEX_ variables that nobody reads, each with the known one that it resembles most."""
    start = f"{PREFIX}_"
    known = [name.removeprefix(start) for name in variables()]
    given = sorted(name.removeprefix(start) for name in environment if name.startswith(start))
    resembling = {name: get_close_matches(name, known, n=1) for name in given if name not in known}
    return {start + name: start + close[0] if close else None for name, close in resembling.items()}
