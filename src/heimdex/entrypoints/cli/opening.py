"""From what was asked to what a command works with: settings, a scope, an application."""

import getpass
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from uuid import UUID

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings, load, unknown
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.scope import System, Tenant
from heimdex.entrypoints.cli.options import Asked
from heimdex.service_layer.job_registry import JobRegistry

_log = logging.getLogger("heimdex")
_OPTIONS: Mapping[str, str] = MappingProxyType({"HEIMDEX_ORG": "--org", "HEIMDEX_DATABASE_URL": "--database-url"})


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
    """
    options = {
        "HEIMDEX_ORG": asked.org,
        "HEIMDEX_DATABASE_URL": asked.database_url,
        "HEIMDEX_DEBUG": "1" if asked.debug else None,
    }
    for variable, resembling in unknown(os.environ).items():
        _log.warning("%s is not a setting%s", variable, f"; did you mean {resembling}?" if resembling else "")
    given = {variable: value for variable, value in options.items() if value is not None}
    with _naming_options(given):
        return load(os.environ | given)


def application(asked: Asked) -> Application:
    """Return an application that creates jobs and asks about them, and runs none."""
    return opened(asked, settings_of(asked))


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
