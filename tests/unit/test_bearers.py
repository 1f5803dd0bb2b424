"""Which JWTs are good: by signature, time, issuer and audience, and never by a way of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("jwt")

from hypothesis import given
from hypothesis import strategies as st

from router.config import AuthSection, JwtSection, Plan, PlanOfClaim
from router.errors import RouterError
from router.gateway.auth import Authenticator, secret_of
from router.identity.bearers import Bearers
from router.identity.issuer import Issuer as KnownIssuer
from router.identity.jwks import read_keys
from router.store.base import Key
from router.store.keys import Ring
from tests.support.issuer import AUDIENCE, ISSUER, SigningKey, claims, handmade, signed_with_public_key

PLANS = {"default": Plan("default"), "gold": Plan("gold", concurrent=5)}
SECTION = JwtSection(
    jwks="/keys.json",
    issuer=ISSUER,
    audience=(AUDIENCE, "other"),
    tenant_claim="tenant",
    plan_claim="groups",
    plan_map=(PlanOfClaim("payers", "gold"), PlanOfClaim("lost", "gone")),
)
KEYS = {name: SigningKey(name) for name in ("RS256", "ES256", "EdDSA")}
STRANGER = SigningKey("ES256", KEYS["ES256"].kid)


class Wall:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def bearers(section: JwtSection = SECTION, *, wall_s: Callable[[], float] = time.time) -> Bearers:
    """With the keys of the issuer known, and nobody to ask for more."""
    issuer = KnownIssuer(monotonic_s=lambda: 0.0)
    issuer.keys = read_keys(json.dumps({"keys": [key.document for key in KEYS.values()]}).encode())
    issuer._may = 0.0
    return Bearers(section, PLANS, issuer, wall_s=wall_s)


def good(algorithm: str = "ES256", head: dict[str, Any] | None = None, **changes: Any) -> str:
    return KEYS[algorithm].sign(claims(**{"tenant": "acme", **changes}), **(head or {}))


def refusal(token: str, of: Bearers | None = None) -> str:
    with pytest.raises(RouterError) as caught:
        (of or bearers()).key_of(token.encode())
    assert (caught.value.code, caught.value.status) == ("unauthorized", 401)
    return caught.value.detail or ""


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_good_one_is_the_tenant_it_names(algorithm: str) -> None:
    key = bearers().key_of(good(algorithm, groups=["x", "payers"], sub="ann").encode())
    assert isinstance(key, Key)
    assert (key.id, key.tenant, key.name, key.plan) == ("jwt:acme", "acme", "ann", PLANS["gold"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": int(time.time()) - 100}, "has expired"),
        ({"exp": None}, "lacks the claim exp"),
        ({"exp": "soon"}, "cannot be read"),
        ({"exp": float("inf")}, ""),
        ({"nbf": int(time.time()) + 10_000}, "is not valid yet"),
        ({"iat": int(time.time()) + 10_000}, "is not valid yet"),
        ({"aud": "somebody"}, "is for another audience"),
        ({"aud": ["a", "b"]}, "is for another audience"),
        ({"aud": None}, "lacks the claim aud"),
        ({"iss": "https://issuer.test/"}, "is of another issuer"),
        ({"iss": None}, "lacks the claim iss"),
        ({"iss": [ISSUER]}, ""),
    ],
)
def test_what_the_claims_must_be(changes: dict[str, Any], why: str) -> None:
    assert why in refusal(good(**changes))


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_the_clocks_of_issuer_and_router_may_differ_a_little(claim: str) -> None:
    a_little_s = -10 if claim == "exp" else 10
    assert isinstance(bearers().key_of(good(**{claim: int(time.time()) + a_little_s}).encode()), Key)


def test_audiences_may_be_several() -> None:
    assert isinstance(bearers().key_of(good(aud=["x", "other"]).encode()), Key)


def test_no_signature_is_no_signature() -> None:
    body = claims(tenant="acme")
    for name in ("none", "None", "NONE", "nOnE", "", None, 5, ["none"], {"a": 1}):
        for kid in (KEYS["ES256"].kid, "x"):
            assert "is signed in a way that is not accepted" in refusal(handmade({"alg": name, "kid": kid}, body))
    assert refusal(handmade({"kid": KEYS["ES256"].kid}, body))
    for algorithm in KEYS:
        stripped = good(algorithm).rpartition(".")[0] + "."
        assert "signature that is wrong" in refusal(stripped)


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("head", [{}, {"alg": "HS384"}, {"alg": "RS256"}, {"alg": "ES256"}, {"alg": "EdDSA"}])
def test_a_public_key_is_never_a_secret(algorithm: str, head: dict[str, Any]) -> None:
    key = KEYS[algorithm]
    forged = signed_with_public_key(key, claims(tenant="acme"), **head)
    with pytest.raises(RouterError) as caught:
        bearers().key_of(forged.encode())
    assert caught.value.code == "unauthorized"


def test_the_same_name_of_a_key_is_not_the_same_key() -> None:
    assert "signature that is wrong" in refusal(STRANGER.sign(claims(tenant="acme")))
    other = SigningKey("ES256").sign(claims(tenant="acme"))
    assert "a key that its issuer does not publish" in refusal(other)
    borrowed = KEYS["RS256"].sign(claims(tenant="acme"), kid=KEYS["ES256"].kid)
    assert "a key that its issuer does not publish" in refusal(borrowed)


def test_a_key_in_the_head_is_not_looked_at() -> None:
    stranger = SigningKey("ES256")
    for head in ({"jwk": stranger.document}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}):
        assert refusal(stranger.sign(claims(tenant="acme"), **head))
    assert refusal(good(head={"crit": ["exp"]}))


def test_one_without_the_name_of_its_key_may_be_of_any() -> None:
    import jwt

    for key in KEYS.values():
        unnamed = jwt.encode(claims(tenant="acme"), key.private, algorithm=key.algorithm)
        assert isinstance(bearers().key_of(unnamed.encode()), Key)
    forged = jwt.encode(claims(tenant="acme"), STRANGER.private, algorithm="ES256")
    assert "does not publish" in refusal(forged)


def test_only_the_algorithms_of_the_file_are_accepted() -> None:
    import dataclasses

    narrow = bearers(dataclasses.replace(SECTION, algorithms=("RS256",)))
    assert isinstance(narrow.key_of(good("RS256").encode()), Key)
    assert "not accepted here" in refusal(good("ES256"), narrow)


def test_who_is_known_is_not_checked_again_until_it_expires() -> None:
    wall = Wall()
    known = bearers(wall_s=wall)
    token = good(exp=int(time.time()) + 60).encode()
    key = known.key_of(token)
    assert known.key_of(token) is key, "the same object: the signature was checked once"
    wall.ahead_s = 91
    assert "has expired" in refusal(token.decode(), known)


def test_a_key_that_the_issuer_withdraws_ends_what_it_signed() -> None:
    known = bearers()
    token = good().encode()
    assert isinstance(known.key_of(token), Key)
    known._issuer.keys = read_keys(json.dumps({"keys": [KEYS["RS256"].document]}).encode())
    known._issuer.changes += 1
    assert "does not publish" in refusal(token.decode(), known)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.identity.bearers._CACHE_ENTRIES", 8)
    known = bearers()
    for n in range(40):
        known.key_of(good("EdDSA", tenant=f"t{n}").encode())
    assert len(known._known) <= 8


def test_a_plan_that_is_not_there_admits_nothing() -> None:
    door = Authenticator(AuthSection(), PLANS, Ring(PLANS), bearers())
    assert door.key_of(good().encode()) is not None
    with pytest.raises(RouterError) as caught:
        door.key_of(good(groups="lost").encode())
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize("mode", ["keys", "open"])
def test_a_bad_one_is_nobody_in_open_mode_too(mode: str) -> None:
    door = Authenticator(AuthSection(mode=mode), PLANS, Ring(PLANS), bearers())
    found = door.key_of(good().encode())
    assert found is not None
    assert found.tenant == "acme"
    with pytest.raises(RouterError):
        door.key_of(good(exp=1).encode())


@pytest.mark.parametrize("mode", ["keys", "open"])
def test_without_an_issuer_a_jwt_is_what_it_always_was(mode: str) -> None:
    door = Authenticator(AuthSection(mode=mode), PLANS, Ring(PLANS))
    if mode == "open":
        found = door.key_of(good().encode())
        assert found is not None
        assert found.id == "anonymous"
        return
    with pytest.raises(RouterError) as caught:
        door.key_of(good().encode())
    assert caught.value.code == "unauthorized"


def test_a_long_one_is_found_in_the_head() -> None:
    token = good(padding="x" * 3000).encode()
    assert secret_of({b"authorization": b"Bearer " + token}) == token
    assert secret_of({b"authorization": b"Bearer " + token, b"x-api-key": b"mr-a"}) == b"mr-a"
    assert secret_of({b"authorization": b"Bearer " + good(padding="x" * 9000).encode()}) is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_are_a_fault(head: bytes, body: bytes, signature: bytes) -> None:
    with pytest.raises(RouterError) as caught:
        bearers().key_of(b"eyJ" + b".".join((head, body, signature)))
    assert caught.value.code == "unauthorized"


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip", "jwk"]),
        st.sampled_from(["ES256", "EdDSA", "RS256", "none", None, 1, [], {}, KEYS["ES256"].kid]),
    )
)
def test_no_head_makes_an_unsigned_one_good(head: dict[str, Any]) -> None:
    with pytest.raises(RouterError) as caught:
        bearers().key_of(handmade(head, claims(tenant="acme"), b"x" * 64).encode())
    assert caught.value.code == "unauthorized"


def test_a_head_that_is_nested_too_deeply() -> None:
    import base64

    deep = base64.urlsafe_b64encode(b'{"a":' + b"[" * 5000).rstrip(b"=")
    assert refusal((deep + b".e30.").decode())


@pytest.mark.parametrize("problem", [None, "answered 500"])
async def test_who_cannot_be_checked_is_not_called_wrong(problem: str | None) -> None:
    section_issuer = KnownIssuer(monotonic_s=lambda: 0.0)
    section_issuer.problem = problem
    nobody = Bearers(SECTION, PLANS, section_issuer, wall_s=time.time)
    found = nobody.key_of(good().encode())
    assert not isinstance(found, Key), "it is worth a wait"
    assert not found.done()
    section_issuer._tell()
    with pytest.raises(RouterError) as caught:
        nobody.key_of(good().encode(), last=True)
    assert (caught.value.code, caught.value.status) == ("identity_unavailable", 503)
