"""From what was asked to what a command works with: settings, a scope, an application."""

import getpass
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType, TracebackType
from typing import Protocol, Self, TypeVar
from uuid import UUID

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings, load, unknown
from heimdex.domain.commands import Command
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.scope import Scope, System, Tenant
from heimdex.entrypoints.cli.options import Asked, Misuse, api_url
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.ports import Views

Answer = TypeVar("Answer")

OF_THE_TOKEN = UUID(int=0)
"""Stands for the organisation that a token names, which only the API reads."""

_log = logging.getLogger("heimdex")
_OPTIONS: Mapping[str, str] = MappingProxyType(
    {"HEIMDEX_ORG": "--org", "HEIMDEX_DATABASE_URL": "--database-url", "HEIMDEX_API_URL": "--api"}
)


class NoOrganisation(InvalidSetting):
    """A command was to act for an organisation, and none was given."""

    def __init__(self) -> None:
        super().__init__("HEIMDEX_ORG", None, "give --org or set HEIMDEX_ORG to the organisation's UUID")

    def __str__(self) -> str:
        return f"no organisation: {self.remedy}"


def settings_of(asked: Asked) -> Settings:
    """Return the settings of the environment, with the options given in their place. Warns of variables misspelt.

    Raises:
        InvalidSetting: names the option where the value came from one.
        Misuse: two options name two ledgers.
    """
    options = {
        "HEIMDEX_ORG": asked.org,
        "HEIMDEX_DATABASE_URL": asked.database_url,
        "HEIMDEX_API_URL": api_url.get(),
        "HEIMDEX_DEBUG": "1" if asked.debug else None,
    }
    for variable, resembling in unknown(os.environ).items():
        _log.warning("%s is not a setting%s", variable, f"; did you mean {resembling}?" if resembling else "")
    given = {variable: value for variable, value in options.items() if value is not None}
    with _naming_options(given):
        settings = load(os.environ | given)
    # An option goes before the environment: of two options, neither does.
    if asked.database_url is not None and api_url.get() is not None:
        raise Misuse("give --api or --database-url, and one of these alone.")
    return settings if asked.database_url is None else settings.changed(api_url=None)


class Ledger(Protocol):
    """What a command about jobs works with: an application here, or one behind an API."""

    @property
    def settings(self) -> Settings: ...

    def handle(self, command: Command[Answer]) -> Answer: ...

    def views(self, scope: Scope) -> AbstractContextManager[Views]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def application(asked: Asked) -> Application:
    """Return an application that creates jobs and asks about them, and runs none."""
    return opened(asked, settings_of(asked))


def ledger(asked: Asked, settings: Settings | None = None, jobs: JobRegistry | None = None) -> Ledger:
    """Return the ledger that was asked for: that of HEIMDEX_API_URL or --api, or else the database's."""
    settings = settings or settings_of(asked)
    if settings.api_url is None:
        return opened(asked, settings, jobs)
    from heimdex.entrypoints.cli.remote import Remote

    with _naming_options(() if asked.org is None else ("HEIMDEX_ORG",)):
        return Remote(settings)


def opened(asked: Asked, settings: Settings, jobs: JobRegistry | None = None) -> Application:
    """Return an application with these settings.

    Raises:
        InvalidSetting: names the option where the value came from one.
    """
    given = () if asked.database_url is None else ("HEIMDEX_DATABASE_URL",)
    with _naming_options(given):
        return bootstrap(settings, jobs=jobs)


def check_kept(asked: Asked, settings: Settings, remedy: str) -> None:
    """Refuse a ledger that ends with this process.

    Raises:
        InvalidSetting: it is in memory.
    """
    if not settings.kept:
        name = "HEIMDEX_DATABASE_URL" if asked.database_url is None else "--database-url"
        raise InvalidSetting(name, settings.database_url, remedy)


def scope_of(settings: Settings, source: str) -> Tenant:
    """Return the scope of the organisation that was asked for, in the name of this process's user.

    Raises:
        NoOrganisation: nobody said which.
    """
    if settings.api_url is not None:
        return scope_for(settings.org or OF_THE_TOKEN, source)
    if settings.org is None:
        raise NoOrganisation
    return scope_for(settings.org, source)


def scope_for(org_id: UUID, source: str) -> Tenant:
    return Tenant(org_id, actor=_user(), source=source)


def every_organisation(source: str, reason: str) -> System:
    """Return the scope of every organisation, in the name of this process's user."""
    return System(actor=_user(), reason=reason, source=source)


@contextmanager
def _naming_options(given: Collection[str]) -> Iterator[None]:
    """Let an error name the option instead of the variable, of those variables that were given as options."""
    try:
        yield
    except InvalidSetting as error:
        if error.field not in given:
            raise
        raise InvalidSetting(_OPTIONS[error.field], error.value, error.remedy) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process need not have a user with a name
        return f"uid {os.getuid()}"
