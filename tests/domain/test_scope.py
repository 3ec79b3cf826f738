"""Who works on whose jobs."""

from uuid import UUID

import pytest
from attrs.exceptions import FrozenInstanceError

from heimdex.domain.errors import InvalidInput
from heimdex.domain.scope import System, Tenant
from tests.domain.life import ORG


def test_a_tenant_is_one_organisation_and_who_acts() -> None:
    scope = Tenant(str(ORG), actor="user@example.com", source="request 7")
    assert (scope.org_id, scope.actor, scope.source) == (ORG, "user@example.com", "request 7")
    assert Tenant(ORG, actor="user").source is None


def test_a_scope_cannot_be_turned_into_another() -> None:
    scope = Tenant(ORG, actor="user")
    with pytest.raises(FrozenInstanceError):
        scope.org_id = UUID(int=2)  # type: ignore[misc]  # that it cannot is what is tested


@pytest.mark.parametrize(
    ("org_id", "actor", "source", "field"),
    [
        ("not an id", "user", None, "org_id"),
        (None, "user", None, "org_id"),
        (ORG, "", None, "actor"),
        (ORG, None, None, "actor"),
        (ORG, "x" * 256, None, "actor"),
        (ORG, "user", "", "source"),
        (ORG, "user", "two\nlines", "source"),
    ],
)
def test_a_tenant_names_an_organisation_and_an_actor(org_id: UUID, actor: str, source: str | None, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Tenant(org_id, actor=actor, source=source)
    assert refused.value.field == field


def test_the_system_says_why_it_needs_every_organisation() -> None:
    scope = System(actor="worker", reason="a worker serves every organisation")
    assert (scope.actor, scope.source) == ("worker", None)
    for reason in ("", "x" * 1_001):
        with pytest.raises(InvalidInput, match=r"^reason: "):
            System(actor="worker", reason=reason)
    with pytest.raises(InvalidInput, match=r"^actor: "):
        System(actor="", reason="a worker serves every organisation")
    with pytest.raises(InvalidInput, match=r"^source: "):
        System(actor="worker", reason="a worker serves every organisation", source="")
