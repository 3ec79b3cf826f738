"""Which tokens count. Whatever is wrong with one, the answer is the same."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from uuid import UUID

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from heimdex.bootstrap import bootstrap
from heimdex.config import Settings
from heimdex.domain.access import Right
from heimdex.domain.errors import NotAuthenticated
from heimdex.entrypoints.http_api.key_set import BETWEEN_FETCHES, FRESH_FOR, KeySet
from heimdex.entrypoints.http_api.tokens import Verifier, bearer, fixed_key, key_by_id
from tests.api_server import SECRET, serving

ORG = UUID("018f3c6e-0000-7000-8000-000000000001")
OTHER = UUID("018f3c6e-0000-7000-8000-000000000002")
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE_KEY = ec.generate_private_key(ec.SECP384R1())
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
PUBLIC_DER = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)

Claims = Mapping[str, object]


def claims(**changed: object) -> dict[str, object]:
    """Return good claims with some changed; `...` takes one away."""
    now = int(time.time())
    good: dict[str, object] = {
        "iss": "heimdex-dev",
        "aud": "heimdex",
        "sub": "user@example.com",
        "iat": now,
        "exp": now + 600,
        "org_id": str(ORG),
        "roles": ["operator"],
    }
    return {name: value for name, value in (good | changed).items() if value is not ...}


def segment(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(
    payload: object,
    header: Mapping[str, object] | str | None = None,
    *,
    key: bytes = SECRET.encode(),
    algorithm: str = "HS256",
) -> str:
    """Return a token with whatever header and payload, signed by hand: libraries refuse to make the worst of them."""
    head = header if isinstance(header, str) else {"alg": algorithm, "typ": "at+jwt", **(header or {})}
    text = f"{segment(head)}.{segment(payload)}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(
        text.encode(), jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    )
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def doubled(name: str, first: object, second: object) -> str:
    """Return the text of good claims in which a name stands twice."""
    rest = json.dumps(claims(**{name: ...}))[1:]
    return f'{{"{name}": {json.dumps(first)}, "{name}": {json.dumps(second)}, {rest}'


NOW = int(time.time())
GOOD = signed(claims())
HEAD, BODY, SIGNATURE = GOOD.split(".")

BAD_CLAIMS: dict[str, object] = {
    "no exp": claims(exp=...),
    "no iat": claims(iat=...),
    "no iss": claims(iss=...),
    "no aud": claims(aud=...),
    "no sub": claims(sub=...),
    "no organisation": claims(org_id=...),
    "expired": claims(iat=NOW - 1_200, exp=NOW - 600),
    "ends before it begins": claims(exp=NOW - 1, iat=NOW),
    "counts too long": claims(exp=NOW + 7_200),
    "exp beyond every clock": claims(exp=1e308),
    "exp as text": claims(exp=str(NOW + 600)),
    "exp true": claims(exp=True),
    "exp null": claims(exp=None),
    "exp negative": claims(exp=-1),
    "exp a list": claims(exp=[NOW + 600]),
    "iat in the future": claims(iat=NOW + 300, exp=NOW + 900),
    "iat as text": claims(iat=str(NOW)),
    "iat false": claims(iat=False),
    "not yet": claims(nbf=NOW + 300),
    "nbf as text": claims(nbf="soon"),
    "another issuer": claims(iss="https://evil.example"),
    "an issuer that contains ours": claims(iss="heimdex-dev.evil.example"),
    "issuer a list": claims(iss=["heimdex-dev"]),
    "issuer null": claims(iss=None),
    "another audience": claims(aud="billing"),
    "audience a list": claims(aud=["heimdex"]),
    "audience a list of two": claims(aud=["heimdex", "billing"]),
    "audience null": claims(aud=None),
    "audience of another case": claims(aud="Heimdex"),
    "sub a number": claims(sub=7),
    "sub null": claims(sub=None),
    "sub empty": claims(sub=""),
    "sub too long": claims(sub="x" * 256),
    "sub with a line break": claims(sub="a\nb"),
    "organisation a list": claims(org_id=[str(ORG)]),
    "organisation a list of two": claims(org_id=[str(ORG), str(OTHER)]),
    "organisation an object": claims(org_id={"id": str(ORG)}),
    "organisation a number": claims(org_id=7),
    "organisation null": claims(org_id=None),
    "organisation a name": claims(org_id="acme"),
    "organisation without hyphens": claims(org_id=ORG.hex),
    "organisation as a URN": claims(org_id=ORG.urn),
    "organisation in braces": claims(org_id=f"{{{ORG}}}"),
    "organisation in other digits": claims(org_id=str(ORG).replace("1", "\u0661")),
    "organisation with a space": claims(org_id=f"{ORG} "),
    "two organisations": doubled("org_id", str(ORG), str(OTHER)),
    "the same organisation twice": doubled("org_id", str(ORG), str(ORG)),
    "two subjects": doubled("sub", "a", "b"),
    "roles a text": claims(roles="admin"),
    "roles of numbers": claims(roles=[1]),
    "roles an object": claims(roles={"admin": True}),
    "NaN in a claim": json.dumps(claims(more=float("nan"))),
    "claims that are a list": [claims()],
    "claims that are a text": '"admin"',
    "claims that are no JSON": "{",
    "claims nested too deep": "[" * 1_500,
}
BAD_HEADERS: dict[str, Mapping[str, object] | str] = {
    "no algorithm": '{"typ": "at+jwt"}',
    "algorithm none": {"alg": "none"},
    "algorithm of another case": {"alg": "hs256"},
    "algorithm a list": {"alg": ["HS256"]},
    "another algorithm": {"alg": "HS512"},
    "algorithm twice": '{"alg": "HS256", "alg": "none", "typ": "at+jwt"}',
    "no type": '{"alg": "HS256"}',
    "a type of another use": {"typ": "logout+jwt"},
    "type null": {"typ": None},
    "critical extension": {"crit": ["exp"], "exp": 1},
    "nested": {"cty": "JWT"},
    "unencoded payload": {"b64": False},
    "compressed": {"zip": "DEF"},
    "header a list": '["HS256"]',
    "header no JSON": "{",
}
BAD_TEXTS: dict[str, str] = {
    "one part": "abc",
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.x",
    "no signature": f"{HEAD}.{BODY}.",
    "unsigned": f"{segment({'alg': 'none', 'typ': 'at+jwt'})}.{segment(claims())}.",
    "signature cut": f"{HEAD}.{BODY}.{SIGNATURE[:-4]}",
    "signature of another secret": signed(claims(), key=b"another secret of thirty-two bytes"),
    "signature of a short secret": signed(claims(), key=b"x"),
    "claims changed": f"{HEAD}.{segment(claims(roles=['admin'], sub='root'))}.{SIGNATURE}",
    "padding": f"{HEAD}==.{BODY}.{SIGNATURE}",
    "a space inside": f"{HEAD}. {BODY}.{SIGNATURE}",
    "too long": signed(claims(more="x" * 9_000)),
    "not Base64": f"{HEAD}.{BODY[:-1]}!.{SIGNATURE}",
    "not UTF-8": f"{HEAD}.{base64.urlsafe_b64encode(bytes([255, 254, 253])).decode()}.{SIGNATURE}",
}
BAD = (
    {name: signed(payload) for name, payload in BAD_CLAIMS.items()}
    | {name: signed(claims(), header) for name, header in BAD_HEADERS.items()}
    | BAD_TEXTS
)


def dev() -> Verifier:
    return Verifier(
        algorithm="HS256",
        find_key=fixed_key(SECRET.encode()),
        issuer="heimdex-dev",
        audience="heimdex",
        org_claim="org_id",
        roles_claim="roles",
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """Publishes keys, and counts who asks."""

    def __init__(self, keys: list[dict[str, object]]) -> None:
        self.keys = keys
        self.fetches = 0
        self.down = False

    def __call__(self) -> bytes:
        self.fetches += 1
        if self.down:
            raise ValueError("down")
        return json.dumps({"keys": self.keys}).encode()


def as_jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str) -> dict[str, object]:
    public = key.public_key()
    document = (
        jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        if isinstance(public, rsa.RSAPublicKey)
        else jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    )
    return {**document, "kid": name, "use": "sig"}


def key_set(issuer: Callable[[], bytes], clock: Callable[[], float], algorithm: str = "RS256") -> KeySet:
    return KeySet(issuer, algorithm=algorithm, now=clock)


def by_keys(keys: KeySet, algorithm: str = "RS256") -> Verifier:
    return Verifier(
        algorithm=algorithm,
        find_key=key_by_id(keys.find),
        issuer="heimdex-dev",
        audience="heimdex",
        org_claim="org_id",
        roles_claim="roles",
    )


def of_issuer(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = RSA_KEY,
    algorithm: str = "RS256",
    **header: object,
) -> str:
    return jwt.encode(claims(), key, algorithm=algorithm, headers={"typ": "at+jwt", "kid": "k1", **header})


def test_a_good_token_says_who_acts_for_whom_and_what_they_may() -> None:
    caller = dev().caller(GOOD)

    assert (caller.org_id, caller.actor) == (ORG, "user@example.com")
    assert caller.rights == {Right.READ, Right.READ_CONTENT, Right.WRITE_JOBS}


def test_roles_that_are_not_ours_give_nothing() -> None:
    assert dev().caller(signed(claims(roles=["owner", "viewer"]))).rights == {Right.READ}
    assert dev().caller(signed(claims(roles=...))).rights == frozenset()


def test_there_are_more_than_sixty_bad_tokens() -> None:
    assert len(BAD) > 60


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_does_not_count(name: str) -> None:
    with pytest.raises(NotAuthenticated):
        dev().caller(BAD[name])


def test_all_bad_tokens_and_none_get_the_same_answer() -> None:
    settings = Settings(database_url="memory://", api_secret=SECRET)
    with bootstrap(settings) as heimdex, serving(heimdex) as url, httpx.Client(base_url=url) as client:
        headers: list[dict[str, str]] = [{}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer"}]
        headers += [{"Authorization": f"Bearer {token}"} for token in BAD.values()]
        answers = [client.get("/v1/jobs", headers=one) for one in headers]
        good = client.get("/v1/jobs", headers={"Authorization": f"Bearer {GOOD}"})

    seen = {
        (
            answer.status_code,
            answer.content,
            _steady(answer.headers),
        )
        for answer in answers
    }
    assert len(seen) == 1
    assert answers[0].status_code == 401
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert good.status_code == 200


def _steady(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in headers.items() if name not in {"x-request-id", "date"}))


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Token x", "bearer"])
def test_a_header_without_a_bearer_token_has_none(given: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        bearer(given)


def test_a_token_of_an_issuer_counts_by_the_key_that_it_names() -> None:
    keys = key_set(Issuer([as_jwk(RSA_KEY, "k1")]), Clock())

    assert by_keys(keys).caller(of_issuer()).org_id == ORG


@pytest.mark.parametrize(
    "token",
    [
        of_issuer(OTHER_RSA_KEY),
        of_issuer(kid="../../etc/passwd"),
        of_issuer(kid="' OR 1=1 --"),
        of_issuer(kid="https://evil.example/keys"),
        of_issuer(kid=""),
        of_issuer(OTHER_RSA_KEY, jku="https://evil.example/keys"),
        of_issuer(OTHER_RSA_KEY, x5u="https://evil.example/cert"),
        of_issuer(OTHER_RSA_KEY, jwk=as_jwk(OTHER_RSA_KEY, "k1")),
        of_issuer(EC_KEY, "ES256"),
        of_issuer(RSA_KEY, "RS512"),
        of_issuer(RSA_KEY, "PS256"),
        signed(claims(), {"kid": "k1"}, key=SECRET.encode()),
        signed(claims(), {"kid": "k1", "alg": "RS256"}, key=SECRET.encode()),
        signed(claims(), {"kid": ["k1"]}),
        signed(claims(), {"kid": None}),
    ],
)
def test_a_token_that_the_issuers_key_did_not_sign_does_not_count(token: str) -> None:
    keys = key_set(Issuer([as_jwk(RSA_KEY, "k1")]), Clock())

    with pytest.raises(NotAuthenticated):
        by_keys(keys).caller(token)


@pytest.mark.parametrize("public", [PUBLIC_PEM, PUBLIC_DER, PUBLIC_PEM.strip()])
def test_the_public_key_is_no_secret_to_sign_with(public: bytes) -> None:
    keys = key_set(Issuer([as_jwk(RSA_KEY, "k1")]), Clock())
    head = segment({"alg": "HS256", "typ": "at+jwt", "kid": "k1"})
    text = f"{head}.{segment(claims())}"
    mac = jwt.get_algorithm_by_name("HS256").sign(text.encode(), public)
    token = f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    with pytest.raises(NotAuthenticated):
        by_keys(keys).caller(token)


def test_a_key_of_another_curve_or_kind_is_not_used() -> None:
    entries = [as_jwk(OTHER_CURVE_KEY, "k1"), as_jwk(RSA_KEY, "k2"), as_jwk(EC_KEY, "k3")]
    keys = key_set(Issuer(entries), Clock(), "ES256")

    assert by_keys(keys, "ES256").caller(of_issuer(EC_KEY, "ES256", kid="k3")).org_id == ORG
    for token in (of_issuer(OTHER_CURVE_KEY, "ES384"), of_issuer(kid="k2")):
        with pytest.raises(NotAuthenticated):
            by_keys(keys, "ES256").caller(token)


def test_ten_thousand_unknown_keys_are_one_fetch_in_thirty_seconds() -> None:
    clock, issuer = Clock(), Issuer([as_jwk(RSA_KEY, "k1")])
    keys = key_set(issuer, clock)

    for number in range(10_000):
        assert keys.find(f"unknown {number}") is None
    assert issuer.fetches == 1
    clock.now += BETWEEN_FETCHES
    keys.find("unknown")
    assert issuer.fetches == 2


def test_a_new_key_is_found_once_it_is_asked_for_and_a_removed_one_is_forgotten() -> None:
    clock, issuer = Clock(), Issuer([as_jwk(RSA_KEY, "k1")])
    keys = key_set(issuer, clock)
    verifier = by_keys(keys)
    assert verifier.caller(of_issuer()).org_id == ORG

    issuer.keys = [as_jwk(OTHER_RSA_KEY, "k2")]
    clock.now += BETWEEN_FETCHES
    assert verifier.caller(of_issuer(OTHER_RSA_KEY, kid="k2")).org_id == ORG
    with pytest.raises(NotAuthenticated):
        verifier.caller(of_issuer())


def test_a_removed_key_counts_no_longer_than_keys_are_fresh() -> None:
    clock, issuer = Clock(), Issuer([as_jwk(RSA_KEY, "k1")])
    verifier = by_keys(key_set(issuer, clock))
    verifier.caller(of_issuer())

    issuer.keys = [as_jwk(OTHER_RSA_KEY, "k2")]
    clock.now += FRESH_FOR
    with pytest.raises(NotAuthenticated):
        verifier.caller(of_issuer())
