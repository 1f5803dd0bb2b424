"""Who a request is from: nothing that looks like a key of ours ever counts as no key."""

from __future__ import annotations

import dataclasses

import pytest

from router.config import AuthSection, Plan
from router.errors import RouterError
from router.gateway.auth import Authenticator, secret_of
from router.store.keys import Ring, new_key

PEPPER = b"pepper"
PLANS = {"default": Plan("default"), "eu": Plan("eu", residency=("eu",))}
GOOD, SECRET = new_key("a", "eu", None, 5.0, PEPPER)
REVOKED, REVOKED_SECRET = new_key("b", "eu", None, 6.0, PEPPER)


def authenticator(mode: str) -> Authenticator:
    ring = Ring(PLANS)
    ring.load([GOOD, dataclasses.replace(REVOKED, revoked=True)], PEPPER)
    return Authenticator(AuthSection(mode=mode), PLANS, ring)


@pytest.mark.parametrize("mode", ["keys", "open"])
@pytest.mark.parametrize(
    "secret",
    [b"mr-", b"mr-wrong", SECRET[:-1].encode(), REVOKED_SECRET.encode()],
    ids=["empty", "wrong", "cut", "revoked"],
)
def test_a_key_that_is_wrong_or_revoked_is_refused_in_both_modes(mode: str, secret: bytes) -> None:
    with pytest.raises(RouterError) as caught:
        authenticator(mode).key_of(secret)
    assert caught.value.code == "unauthorized"


@pytest.mark.parametrize("mode", ["keys", "open"])
def test_a_good_key_has_its_plan_in_both_modes(mode: str) -> None:
    key = authenticator(mode).key_of(SECRET.encode())
    assert (key.id, key.plan.residency) == (GOOD.id, ("eu",))


@pytest.mark.parametrize("secret", [None, b"none", b"sk-1234"])
def test_who_sends_no_key_of_ours_is_anonymous_in_open_mode_only(secret: bytes | None) -> None:
    assert authenticator("open").key_of(secret).id == "anonymous"
    with pytest.raises(RouterError) as caught:
        authenticator("keys").key_of(secret)
    assert caught.value.code == "unauthorized"


@pytest.mark.parametrize("mode", ["keys", "open"])
def test_a_key_that_cannot_be_checked_yet_is_not_taken_for_none(mode: str) -> None:
    unread = Authenticator(AuthSection(mode=mode), PLANS, Ring(PLANS))
    with pytest.raises(RouterError) as caught:
        unread.key_of(SECRET.encode())
    assert caught.value.code == "store_unavailable"


def test_open_mode_needs_no_store_for_those_without_a_key() -> None:
    unread = Authenticator(AuthSection(mode="open"), PLANS, Ring(PLANS))
    assert unread.key_of(b"sk-1234").id == "anonymous"


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({b"authorization": b"Bearer mr-a", b"x-api-key": b"mr-b"}, b"mr-a"),
        ({b"authorization": b"Bearer none", b"x-api-key": b"mr-b"}, b"mr-b"),
        ({b"x-api-key": b"none", b"api-key": b"mr-c"}, b"mr-c"),
        ({b"authorization": b"Bearer none", b"x-api-key": b"other"}, b"none"),
        ({b"authorization": b"Basic mr-a", b"api-key": b"c"}, b"c"),
        ({b"authorization": b"Bearer " + b"x" * 600}, None),
        ({b"authorization": b"Bearer  "}, None),
        ({}, None),
    ],
)
def test_the_first_that_can_be_a_key_counts(headers: dict[bytes, bytes], secret: bytes | None) -> None:
    assert secret_of(headers) == secret
