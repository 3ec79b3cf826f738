"""The ledger behind an API, as commands about jobs use it."""

import json
from base64 import urlsafe_b64decode
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from heimdex.bootstrap import connect_ledger
from heimdex.config import Settings
from heimdex.domain.commands import Command
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Views

Answer = TypeVar("Answer")


class Remote:
    """Acts for the organisation that the token names, in the name of whom it names."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to call the API of HEIMDEX_API_URL; nothing is sent yet.

        Raises:
            InvalidSetting: there is no token, or it is one of another organisation than that which was asked for.
            InvalidInput: the URL or the token is none.
        """
        if settings.api_url is None or settings.api_token is None:
            raise InvalidSetting(
                "HEIMDEX_API_TOKEN", None, "set it to a token of the API's issuer, or of `heimdex token`"
            )
        org_id = _org_of(settings.api_token, settings.api_org_claim)
        if settings.org is not None and org_id not in {None, settings.org}:
            raise InvalidSetting("HEIMDEX_ORG", str(settings.org), f"the token is one of organisation {org_id}")
        self.settings = settings.changed(org=org_id or settings.org)
        self._ledger = connect_ledger(settings.api_url, settings.api_token)

    def handle(self, command: Command[Answer]) -> Answer:
        return self._ledger.handle(command)

    def views(self, scope: Scope) -> AbstractContextManager[Views]:
        return self._ledger.views(scope)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ledger.close()


def _org_of(token: str, claim: str) -> UUID | None:
    """Return what a token says of its organisation, which only the API believes; None where it cannot be read here."""
    try:
        segment = token.split(".")[1]
        return UUID(json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))[claim])
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
