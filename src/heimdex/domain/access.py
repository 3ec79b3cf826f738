"""Who may do what: the roles of callers from outside. Whoever has no role may do nothing."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from attrs import frozen

from heimdex.domain.errors import NotPermitted
from heimdex.domain.scope import Tenant


class Right(StrEnum):
    READ = "read"
    # What users put in and job functions made: payloads, results, error messages, details of events, metadata.
    READ_CONTENT = "read_content"
    WRITE_JOBS = "write_jobs"
    WRITE_QUEUES = "write_queues"


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        Role.VIEWER: frozenset({Right.READ}),
        Role.OPERATOR: frozenset({Right.READ, Right.READ_CONTENT, Right.WRITE_JOBS}),
        Role.ADMIN: frozenset(Right),
    }
)


@frozen
class Caller:
    """Somebody who acts for one organisation, with what a token says of them.

    Args:
        expires_at: when the token ends, in seconds since 1970.
    """

    org_id: UUID
    actor: str
    rights: frozenset[Right]
    expires_at: float

    def may(self, right: Right) -> bool:
        return right in self.rights

    def check(self, right: Right) -> None:
        """Return if the caller has a right.

        Raises:
            NotPermitted: it has not.
        """
        if right not in self.rights:
            raise NotPermitted(right)

    def scope(self, source: str) -> Tenant:
        return Tenant(self.org_id, actor=self.actor, source=source)


def rights_of(roles: frozenset[str]) -> frozenset[Right]:
    """Return what these roles give together; names that are no role of ours give nothing."""
    return frozenset(right for role in Role if role in roles for right in RIGHTS[role])
