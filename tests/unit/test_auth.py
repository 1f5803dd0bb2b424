"""Who a request is from: nothing that looks like a key of ours ever counts as no key."""

from __future__ import annotations

import dataclasses

import pytest

from router.config import AuthSection, Plan
from router.errors import RouterError
from router.gateway.auth import Authenticator, secret_of
from router.store.keys import Ring, new_key, rotated

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


NOW_S = 1_796_000_000.0
END_S = 1_798_621_200.0


class Clock:
    """The wall clock of a test."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def refusal(authenticator: Authenticator, secret: str) -> str | None:
    """Why it is refused; None if it is not."""
    try:
        authenticator.key_of(secret.encode())
    except RouterError as error:
        return f"{error.status} {error.detail}"
    return None


@pytest.mark.parametrize("mode", ["keys", "open"])
def test_a_key_expires_without_a_restart_and_says_so(mode: str) -> None:
    record, secret = new_key("a", "default", None, NOW_S, PEPPER, END_S)
    ring, clock = Ring(PLANS), Clock()
    ring.load([record], PEPPER)
    door = Authenticator(AuthSection(mode=mode), PLANS, ring, wall_s=clock)
    clock.now_s = END_S - 1
    assert refusal(door, secret) is None
    clock.now_s = END_S
    assert refusal(door, secret) == "401 This API key expired at 2026-12-30T09:00:00Z."
    ring.put(dataclasses.replace(record, expires_s=None))
    assert refusal(door, secret) is None


def test_an_old_secret_works_until_its_overlap_is_over() -> None:
    record, old = new_key("a", "default", None, NOW_S, PEPPER)
    ring, clock = Ring(PLANS), Clock()
    door = Authenticator(AuthSection(), PLANS, ring, wall_s=clock)
    ring.load([record], PEPPER)
    assert refusal(door, old) is None, "the old secret is in the cache"
    record, new = rotated(record, 60.0, NOW_S, PEPPER)
    ring.put(record)
    for clock.now_s in (NOW_S, NOW_S + 59):
        one, other = door.key_of(old.encode()), door.key_of(new.encode())
        assert (one.id, one.tenant) == (other.id, other.tenant)
        assert one.plan is other.plan, "one account, which is looked up by the plan"
    clock.now_s = NOW_S + 60
    assert refusal(door, new) is None
    assert "was given a new secret; the old one ended at 2026-" in (refusal(door, old) or "")
    ring.load([dataclasses.replace(record, revoked=True)], PEPPER)
    assert refusal(door, new) == refusal(door, "mr-wrong") == "401 Missing or invalid API key."


@pytest.mark.parametrize(
    ("secret", "found"),
    [("new", True), ("prolonged", True), ("wrong", False), ("expired", False), ("revoked", False)],
)
async def test_a_key_is_refused_only_after_the_store_was_asked_for_newer_ones(secret: str, found: bool) -> None:
    """A revoked one is refused at once: a revocation is never taken back."""
    made = {name: new_key(name, "default", None, NOW_S, PEPPER, END_S) for name in ("prolonged", "expired", "revoked")}
    made["new"] = new_key("new", "default", None, NOW_S, PEPPER)
    before = {name: record for name, (record, _) in made.items() if name != "new"}
    before["revoked"] = dataclasses.replace(before["revoked"], revoked=True)
    ring, asked = Ring(PLANS), 0
    ring.load(before.values(), PEPPER)

    async def newer_keys() -> None:
        nonlocal asked
        asked += 1
        prolonged = dataclasses.replace(before["prolonged"], expires_s=END_S + 10)
        ring.load([*before.values(), prolonged, made["new"][0]], PEPPER)

    door = Authenticator(AuthSection(), PLANS, ring, newer_keys=newer_keys, wall_s=Clock(END_S))
    given = made[secret][1].encode() if secret in made else b"mr-wrong"
    if secret == "revoked":
        assert refusal(door, made[secret][1]) == "401 Missing or invalid API key."
        assert not asked
        return
    assert door.key_of(given) is None
    if found:
        assert (await door.key_soon(given)).name == secret
    else:
        with pytest.raises(RouterError) as caught:
            await door.key_soon(given)
        assert caught.value.code == "unauthorized"
    assert asked == 1
    if found:
        assert door.key_of(given) is not None, "from now on without a wait"
