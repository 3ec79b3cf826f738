"""From what was asked to what a command works with: settings, a scope, an application."""

import getpass
import logging
import os
from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings, load, unknown
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.scope import Tenant
from heimdex.entrypoints.cli.options import Asked

_log = logging.getLogger("heimdex")
_OPTIONS: Mapping[str, str] = MappingProxyType({"HEIMDEX_ORG": "--org", "HEIMDEX_DATABASE_URL": "--database-url"})


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
    try:
        return load(os.environ | given)
    except InvalidSetting as error:
        if error.field not in given:
            raise
        raise InvalidSetting(_OPTIONS[error.field], error.value, error.remedy) from None


def application(asked: Asked) -> Application:
    """Return an application that creates jobs and asks about them, and runs none."""
    return bootstrap(settings_of(asked))


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
        InvalidSetting: there is no organisation.
    """
    if settings.org is None:
        raise InvalidSetting("HEIMDEX_ORG", None, "give --org or set HEIMDEX_ORG to the organisation's UUID")
    return scope_for(settings.org, source)


def scope_for(org_id: UUID, source: str) -> Tenant:
    return Tenant(org_id, actor=_user(), source=source)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process need not have a user with a name
        return f"uid {os.getuid()}"
