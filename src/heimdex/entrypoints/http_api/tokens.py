"""A bearer token becomes a Caller, or nothing does: whatever is wrong with it, the answer is the same."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, cast
from uuid import UUID

import jwt
from attrs import frozen

from heimdex.domain.access import Caller, rights_of
from heimdex.domain.errors import InvalidInput, NotAuthenticated
from heimdex.domain.rules import check_text

Claims: TypeAlias = Mapping[str, object]
Key: TypeAlias = bytes | jwt.PyJWK

_MOST_CHARACTERS = 8_192
_LEEWAY_SECONDS = 10
_LONGEST_SECONDS = 3_600
_LATEST = 2**53
_SEGMENTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
# What a token is for, if it is for us. RFC 8725, section 3.11: tokens of other kinds must not pass for these.
_KINDS = frozenset({"jwt", "at+jwt", "application/at+jwt"})
# Each would change how the token is to be read.
_REFUSED_HEADERS = frozenset({"crit", "cty", "b64", "zip", "enc"})
_REQUIRED = ("exp", "iat", "iss", "aud", "sub")


class FindKey(Protocol):
    def __call__(self, header: Claims) -> Key | None:
        """Return the key that a token with this header must be signed with; None where there is none.

        Raises:
            KeysUnavailable.
        """


@frozen(kw_only=True)
class Verifier:
    """Checks the tokens of one issuer: one algorithm, one source of keys, one place for the organisation.

    Source: RFC 8725 (JSON Web Token Best Current Practices).
    """

    algorithm: str
    find_key: FindKey
    issuer: str
    audience: str
    org_claim: str
    roles_claim: str

    def caller(self, token: str) -> Caller:
        """Return whom a token speaks for.

        Raises:
            NotAuthenticated: it does not count.
            KeysUnavailable: nobody can tell.
        """
        try:
            return self._caller(token)
        except (jwt.PyJWTError, InvalidInput, LookupError, OverflowError, RecursionError, TypeError, ValueError):
            # From None: the cause may hold claims.
            raise NotAuthenticated from None

    def _caller(self, token: str) -> Caller:
        header, claims = _read(token)
        if str(header.get("typ")).lower() not in _KINDS or _REFUSED_HEADERS & header.keys():
            raise NotAuthenticated
        key = self.find_key(header)
        if key is None:
            raise NotAuthenticated
        jwt.decode(
            token,
            key,
            algorithms=[self.algorithm],
            audience=self.audience,
            issuer=self.issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": list(_REQUIRED), "strict_aud": True, "enforce_minimum_key_length": True},
        )
        return Caller(
            org_id=_org_id(claims[self.org_claim]),
            actor=check_text("sub", claims["sub"]),
            rights=rights_of(_roles(claims.get(self.roles_claim, []))),
            expires_at=_end(claims),
        )


def bearer(authorization: str | None) -> str:
    """Return the token of an Authorization header.

    Raises:
        NotAuthenticated: there is none.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    return token


def sign(claims: Claims, secret: bytes) -> str:
    """Return a token of `dev`."""
    return jwt.encode(dict(claims), secret, algorithm="HS256", headers={"typ": "at+jwt"})


def _read(token: str) -> tuple[Claims, Claims]:
    """Return header and claims as they are written, not yet to be believed. A name that stands twice is refused."""
    segments = _SEGMENTS.fullmatch(token) if len(token) <= _MOST_CHARACTERS else None
    if segments is None:
        raise NotAuthenticated
    return _object(segments[1]), _object(segments[2])


def _object(segment: str) -> Claims:
    text = urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode()
    value = cast("object", json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse))
    if not isinstance(value, dict):
        raise TypeError
    return cast("Claims", value)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse(_: str) -> None:
    raise ValueError


def _org_id(claim: object) -> UUID:
    if not isinstance(claim, str) or not _UUID.fullmatch(claim):
        raise TypeError
    return UUID(claim)


def _roles(claim: object) -> frozenset[str]:
    if not isinstance(claim, list) or not all(isinstance(role, str) for role in claim):
        raise TypeError
    return frozenset(claim)


def _end(claims: Claims) -> float:
    start, end = _seconds(claims["iat"]), _seconds(claims["exp"])
    if not 0 < end - start <= _LONGEST_SECONDS:
        raise NotAuthenticated
    return end


def _seconds(claim: object) -> float:
    # Not isinstance: True is an int.
    if type(claim) not in {int, float} or not 0 <= cast("float", claim) < _LATEST:
        raise TypeError
    return float(cast("float", claim))


def fixed_key(secret: bytes) -> FindKey:
    """Return how every token finds the one key."""

    def find(header: Claims) -> Key | None:
        return secret if header.get("alg") == "HS256" else None

    return find


def key_by_id(find: Callable[[str], Key | None]) -> FindKey:
    """Return how a token finds its key by the `kid` of its header, which is nothing but a name to look up."""

    def find_key(header: Claims) -> Key | None:
        name = header.get("kid")
        return find(name) if isinstance(name, str) else None

    return find_key
