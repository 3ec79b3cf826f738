"""From settings to what checks tokens. What is missing is said at the start, never at the first request."""

from collections.abc import Callable, Collection
from datetime import timedelta
from time import time
from uuid import UUID

from heimdex.config import Settings
from heimdex.domain.access import Role
from heimdex.domain.errors import InvalidSetting
from heimdex.entrypoints.http_api.key_set import KeySet, fetch_from
from heimdex.entrypoints.http_api.tokens import FindKey, Verifier, fixed_key, key_by_id, sign

DEV = "dev"
DEV_ISSUER = "heimdex-dev"
DEV_AUDIENCE = "heimdex"
LONGEST = timedelta(hours=1)


def open_verifier(settings: Settings, now: Callable[[], float]) -> tuple[Verifier, KeySet | None]:
    """Return what checks tokens, and the keys that it looks up, where it does.

    Raises:
        InvalidSetting: a setting is missing, or `dev` is asked for in production.
    """
    if settings.api_auth == DEV:
        return _verifier(settings, "HS256", fixed_key(_secret(settings)), DEV_ISSUER, DEV_AUDIENCE), None
    issuer = _needed("HEIMDEX_API_ISSUER", settings.api_issuer, "name who issues the tokens: their claim iss")
    audience = _needed("HEIMDEX_API_AUDIENCE", settings.api_audience, "name for whom the tokens are: their claim aud")
    url = _needed("HEIMDEX_API_JWKS_URL", settings.api_jwks_url, "name where the issuer's public keys are")
    keys = KeySet(fetch_from(url), algorithm=settings.api_algorithm, now=now)
    return _verifier(settings, settings.api_algorithm, key_by_id(keys.find), issuer, audience), keys


def mint(settings: Settings, *, org_id: UUID, actor: str, roles: Collection[Role], lifetime: timedelta) -> str:
    """Return a token of `dev`.

    Raises:
        InvalidSetting: tokens of this server are not made here.
    """
    if settings.api_auth != DEV:
        raise InvalidSetting(
            "HEIMDEX_API_AUTH", settings.api_auth, "ask the issuer for a token; only those of dev are made here"
        )
    at = int(time())
    claims = {
        "iss": settings.api_issuer or DEV_ISSUER,
        "aud": settings.api_audience or DEV_AUDIENCE,
        "sub": actor,
        "iat": at,
        "exp": at + int(lifetime.total_seconds()),
        settings.api_org_claim: str(org_id),
        settings.api_roles_claim: sorted(roles),
    }
    return sign(claims, _secret(settings))


def _verifier(settings: Settings, algorithm: str, find_key: FindKey, issuer: str, audience: str) -> Verifier:
    return Verifier(
        algorithm=algorithm,
        find_key=find_key,
        issuer=settings.api_issuer or issuer,
        audience=settings.api_audience or audience,
        org_claim=settings.api_org_claim,
        roles_claim=settings.api_roles_claim,
    )


def _secret(settings: Settings) -> bytes:
    if settings.env != "local":
        raise InvalidSetting(
            "HEIMDEX_API_AUTH", settings.api_auth, "give jwks: whoever knows the one secret of dev can be anybody"
        )
    secret = _needed("HEIMDEX_API_SECRET", settings.api_secret, "give at least 32 bytes that nobody else knows")
    return secret.encode()


def _needed(variable: str, value: str | None, remedy: str) -> str:
    if value is None:
        raise InvalidSetting(variable, None, remedy)
    return value
