"""Who works on whose jobs. A unit of work cannot be opened without a scope."""

from typing import TypeAlias
from uuid import UUID

from attrs import Attribute, field, frozen

from heimdex.domain.rules import MAX_REASON, check_optional_text, check_text, check_uuid


def _name(_: object, attribute: "Attribute[str]", value: str) -> None:
    check_text(attribute.name, value)


def _optional_name(_: object, attribute: "Attribute[str | None]", value: str | None) -> None:
    check_optional_text(attribute.name, value)


def _reason(_: object, attribute: "Attribute[str]", value: str) -> None:
    check_text(attribute.name, value, MAX_REASON)


def _org_id(value: UUID | str) -> UUID:
    return check_uuid("org_id", value)


@frozen
class Tenant:
    """One organisation. Rows of others cannot be read or changed.

    Args:
        actor: who acts, such as a user's e-mail address; goes into every event.
        source: from where, such as a request id or a command.
    """

    org_id: UUID = field(converter=_org_id)
    actor: str = field(kw_only=True, validator=_name)
    source: str | None = field(default=None, kw_only=True, validator=_optional_name)


@frozen(kw_only=True)
class System:
    """Every organisation: workers and maintenance. `reason` says why all of them are needed."""

    actor: str = field(validator=_name)
    reason: str = field(validator=_reason)
    source: str | None = field(default=None, validator=_optional_name)


Scope: TypeAlias = Tenant | System
