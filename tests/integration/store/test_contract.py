"""What every store promises, in memory and on Redis alike."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from router.config import Config, Plan, StoreSection, Tenant
from router.core.limits import Amounts
from router.core.scopes import TENANT
from router.store import together
from router.store.base import Holder, Key, KeyRing, Refusal, Reservation, Store, StoreError
from router.store.groups import LimitGroup
from router.store.keys import PEPPER_ENV
from router.store.open import open_store
from tests.integration.store.routers import eventually
from tests.support.valkey import Valkey

PLANS = {
    "default": Plan("default", requests_per_minute=60, tokens_per_minute=6000, concurrent=3, budget_usd_month=1.0),
    "free": Plan("free"),
    "small": Plan("small", requests_per_minute=2),
}


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, shared_valkey: Valkey) -> AsyncIterator[Store]:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url if request.param == "redis" else None
    store = open_store(Config(plans=PLANS, store=StoreSection(redis=url)), router_name="r1")
    await store.start()
    yield store
    await store.stop()


async def take(store: Store, key: Key, tokens: int = 10, microusd: int = 0) -> Reservation | Refusal:
    taken = store.reserve_now(key, Amounts(1, tokens, 0, microusd), "r", time.monotonic())
    return await store.reserve(key, Amounts(1, tokens, 0, microusd), "r") if taken is None else taken


async def taken(store: Store, key: Key, tokens: int = 10, microusd: int = 0) -> Reservation:
    answer = await take(store, key, tokens, microusd)
    assert isinstance(answer, Reservation), answer
    return answer


async def refused(store: Store, key: Key, tokens: int = 10, microusd: int = 0) -> Refusal:
    answer = await take(store, key, tokens, microusd)
    assert isinstance(answer, Refusal), answer
    return answer


async def used(store: Store, key: Holder) -> dict[str, float]:
    return {s.limit: s.used + s.held for s in await store.quota(key)}


async def settles(store: Store, key: Holder, **wanted: float) -> None:
    """Until these limits show this much in use, at most: time gives back meanwhile."""

    async def shown() -> bool:
        now = await used(store, key)
        return all(now[name] <= units for name, units in wanted.items())

    await eventually(shown)


def ring(store: Store) -> KeyRing:
    return store.keys


async def test_a_key_is_made_found_listed_and_revoked(store: Store) -> None:
    key, secret = await store.create_key("alice", "small", "acme")
    assert secret.startswith("mr-")
    assert len(secret) >= 40
    assert (key.name, key.tenant, key.plan, key.revoked) == ("alice", "acme", PLANS["small"], False)
    assert key.created_s == pytest.approx(time.time(), abs=5)
    assert ring(store).lookup(secret.encode()) == key
    assert ring(store).lookup(secret[:-1].encode()) is None
    assert ring(store).lookup(b"\xff\x00") is None
    other, _ = await store.create_key("bob")
    assert other.tenant == "bob"
    assert await store.list_keys() == [key, other]
    assert await store.get_key(key.id) == key
    assert await store.get_key("key_none") is None
    assert await store.revoke_key(key.id)
    assert not await store.revoke_key("key_none")
    found = ring(store).lookup(secret.encode())
    assert found is not None
    assert found.revoked


async def test_a_key_is_changed_and_what_it_used_stays_used(store: Store) -> None:
    key, secret = await store.create_key("alice", "small", "acme")
    await taken(store, key)
    await settles(store, key, requests=1)
    changed = await store.change_key(key.id, {"plan": "default", "name": "al"})
    assert changed is not None
    assert (changed.name, changed.tenant, changed.plan) == ("al", "acme", PLANS["default"])
    assert ring(store).lookup(secret.encode()) == changed == await store.get_key(key.id)
    await taken(store, changed)
    assert (await used(store, changed))["requests"] == 2, "the room of the larger plan is there at once"
    await store.reset_quota(changed)
    await settles(store, changed, requests=0)
    assert await store.change_key("key_none", {"plan": "default"}) is None


async def test_a_key_has_an_expiry_that_can_be_changed(store: Store) -> None:
    key, secret = await store.create_key("alice", "small", expires_s=1_900_000_000.0)
    assert key.expires_s == 1_900_000_000.0
    changed = await store.change_key(key.id, {"expires_s": None})
    assert changed is not None
    assert changed.expires_s is None
    assert ring(store).lookup(secret.encode()) == changed


async def test_a_rotated_key_is_one_key_with_one_account(store: Store) -> None:
    key, old = await store.create_key("alice", "small")
    await taken(store, key)
    made = await store.rotate_key(key.id, 3600.0)
    assert made is not None
    rotated, new = made
    assert (rotated.id, rotated.created_s, old != new) == (key.id, key.created_s, True)
    assert rotated.older_until_s == pytest.approx((time.time() + 3600,), abs=5)
    by_old, by_new = ring(store).lookup(old.encode()), ring(store).lookup(new.encode())
    assert by_new == rotated
    assert by_old is not None
    assert by_old.replaced_until_s == rotated.older_until_s[0]
    await taken(store, by_old)
    assert (await refused(store, by_new)).limit == "requests", "two requests a minute, whichever secret they come with"
    assert (await refused(store, by_old)).limit == "requests"
    await store.rotate_key(key.id, 0.0)
    assert ring(store).lookup(old.encode()) is None
    assert ring(store).lookup(new.encode()) is None
    assert await store.rotate_key("key_none", 0.0) is None


async def test_a_new_plan_applies_to_keys_that_exist(store: Store) -> None:
    key, secret = await store.create_key("a", "small")
    await taken(store, key)
    await taken(store, key)
    await refused(store, key)
    store.set_plans(PLANS | {"small": dataclasses.replace(PLANS["small"], requests_per_minute=20)})
    key = ring(store).lookup(secret.encode())  # type: ignore[assignment]
    assert key.plan.requests_per_minute == 20
    store.set_plans({"default": PLANS["default"]})
    key = ring(store).lookup(secret.encode())  # type: ignore[assignment]
    assert key.plan_missing
    assert key.plan.name == "small"
    assert isinstance(await take(store, key), Refusal), "not even code that forgets to ask lets it in"
    store.set_plans(PLANS)
    key = ring(store).lookup(secret.encode())  # type: ignore[assignment]
    assert not key.plan_missing


async def test_the_answer_tells_where_the_limits_stand(store: Store) -> None:
    key, _ = await store.create_key("a")
    answer = await taken(store, key, 1500)
    began_s = time.monotonic()
    requests, tokens = answer.shown
    assert (requests.limit, requests.most, requests.remaining) == ("requests", 60, 59)
    assert requests.reset_s == pytest.approx(1, abs=0.01)
    assert (tokens.limit, tokens.most, tokens.remaining) == ("tokens", 6000, 4500)
    assert tokens.reset_s == pytest.approx(15, abs=0.01)
    no = await refused(store, key, 5000)
    passed_s = time.monotonic() - began_s + 0.15  # the store may have given the first answer that much earlier
    assert no.limit == "tokens"
    assert no.retry_after_s is not None
    assert 5 - passed_s <= no.retry_after_s <= 5
    requests, tokens = no.shown
    assert (requests.most, tokens.most) == (60, 6000)
    assert 4500 <= tokens.remaining <= 4500 + 100 * passed_s, "100 tokens come back each second"
    for words in (" of 6000 tokens per minute are used", "needs 5000", "Retry in "):
        assert words in no.detail


async def test_a_refusal_by_one_limit_takes_nothing_of_another(store: Store) -> None:
    key, _ = await store.create_key("a")
    before = await taken(store, key, 5000)
    for _ in range(5):
        assert (await refused(store, key, 3000)).limit == "tokens"
    answer = await taken(store, key, 10)
    assert answer.shown[0].remaining == 58
    now = await used(store, key)
    assert now["concurrent"] == 2
    store.settle(before, None)
    store.settle(answer, None)


async def test_concurrency_ends_with_the_settlement(store: Store) -> None:
    key, _ = await store.create_key("a")
    held = [await taken(store, key) for _ in range(3)]
    no = await refused(store, key)
    assert no.limit == "concurrent"
    assert no.retry_after_s == 1.0
    store.settle(held[0], Amounts(1, 10))
    store.settle(held[0], Amounts(1, 10))  # a second time changes nothing
    await taken(store, key)
    assert (await refused(store, key)).limit == "concurrent"


async def test_a_budget_counts_money(store: Store) -> None:
    key, _ = await store.create_key("a")
    first = await taken(store, key, microusd=900_000)
    no = await refused(store, key, microusd=200_000)
    assert no.limit == "budget"
    assert no.retry_after_s is not None
    assert no.retry_after_s > 60
    assert "0.90 of 1.00 USD" in no.detail
    await taken(store, key, microusd=0)  # what costs nothing passes
    store.settle(first, Amounts(1, 10, 0, 100_000))
    await settles(store, key, budget=0.1)
    await taken(store, key, microusd=800_000)


async def test_a_cost_above_the_limit_itself_is_told_apart(store: Store) -> None:
    key, _ = await store.create_key("a")
    for no in (await refused(store, key, 6001), await refused(store, key, microusd=1_000_001)):
        assert no.retry_after_s is None
        assert "waiting does not help" in no.detail
    await taken(store, key, 6000)


async def test_a_settlement_corrects_to_the_real_usage(store: Store) -> None:
    key, _ = await store.create_key("a")
    store.settle(await taken(store, key, 6000), Amounts(1, 600))
    await settles(store, key, tokens=600, concurrent=0)
    store.settle(await taken(store, key, 100), Amounts(1, 2000))
    await settles(store, key, concurrent=0)
    assert (await used(store, key))["tokens"] >= 2000
    store.settle(await taken(store, key, 3000), None)
    await settles(store, key, tokens=2600, requests=2, concurrent=0)


async def test_a_plan_without_limits_costs_nothing(store: Store) -> None:
    key, _ = await store.create_key("a", "free")
    answer = store.reserve_now(key, Amounts(1, 10**9), "r", time.monotonic())
    assert isinstance(answer, Reservation)
    assert (answer.source, answer.shown) == ("none", ())
    store.settle(answer, Amounts(1, 5))
    assert await store.quota(key) == []


async def test_a_quota_can_be_reset(store: Store) -> None:
    key, _ = await store.create_key("a", "small")
    await taken(store, key)
    await taken(store, key)
    await refused(store, key)
    await store.reset_quota(key)
    assert (await used(store, key))["requests"] == 0
    await taken(store, key)


async def test_a_reset_forgets_what_a_lowered_limit_leaves_out(store: Store) -> None:
    key, _ = await store.create_key("a")
    for _ in range(30):
        store.settle(await taken(store, key), Amounts(1))
    lowered = await store.change_key(key.id, {"plan": "small"})
    assert lowered is not None
    await refused(store, lowered)
    await store.reset_quota(lowered)
    raised = await store.change_key(key.id, {"plan": "default"})
    assert raised is not None
    assert (await used(store, raised))["requests"] == 0


async def test_one_claims_what_only_one_may_do(store: Store) -> None:
    assert await store.claim("wake:m", 60.0)
    assert not await store.claim("wake:m", 60.0)
    assert await store.claim("wake:n", 0.05)
    await store.release("wake:m")
    await store.release("never claimed")
    assert await store.claim("wake:m", 60.0)

    async def runs_out() -> bool:
        return await store.claim("wake:n", 60.0)

    await eventually(runs_out)


async def test_runtime_state_is_kept(store: Store) -> None:
    await store.set_runtime("drain:eu", "1")
    await store.set_runtime("drain:us", "1")
    await store.set_runtime("drain:eu", None)
    assert await store.get_runtime() == {"drain:us": "1"}
    assert store.state == "up"

    async def answers() -> bool:
        rtt_s = await store.ping()
        return rtt_s is not None and 0 <= rtt_s < 0.1

    await eventually(answers)


async def test_a_note_is_kept_for_its_time(store: Store) -> None:
    store.remember("response", "d1", "us/a", 60.0)
    store.remember("response", "d2", "us/b", 0.2)
    store.remember("other", "d1", "eu/a", 60.0)
    assert await store.recall("response", "d1") == "us/a"
    assert await store.recall("other", "d1") == "eu/a"
    assert await store.recall("response", "none") is None

    async def over() -> bool:
        return await store.recall("response", "d2") is None

    await eventually(over)
    store.forget("response", "d1")
    await eventually(partial(_unknown, store, "d1"))
    assert await store.recall("other", "d1") == "eu/a"


async def _unknown(store: Store, digest: str) -> bool:
    return await store.recall("response", digest) is None


async def test_a_mark_ends_with_its_time(store: Store) -> None:
    store.mark("poison", "d1", 60.0)
    store.mark("poison", "d2", 0.2)
    assert store.marked("poison", "d1")
    assert not store.marked("other", "d1")
    await eventually(lambda: not store.marked("poison", "d2"))
    assert store.marked("poison", "d1")


async def test_no_secret_is_kept(store: Store, shared_valkey: Valkey) -> None:
    _, secret = await store.create_key("a")
    everything = repr(store) + repr(store.keys) + repr(await store.list_keys())
    for name in ("keys", "pepper", "version"):
        everything += repr(shared_valkey.command("HGETALL" if name == "keys" else "GET", f"{{mr}}:{name}"))
    assert secret not in everything
    assert secret[3:] not in everything


async def test_the_pepper_may_come_from_the_environment(shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_valkey.command("FLUSHALL")
    config = Config(plans=PLANS, store=StoreSection(redis=shared_valkey.url))
    monkeypatch.setenv(PEPPER_ENV, "p" * 32)
    store = open_store(config, router_name="r1")
    await store.start()
    _, secret = await store.create_key("a")
    await store.stop()
    assert b"pppp" not in shared_valkey.command("GET", "{mr}:pepper")
    store = open_store(config, router_name="r1")
    await store.start()
    assert store.keys.lookup(secret.encode()) is not None
    await store.stop()
    for wrong in ("", "q" * 32):
        monkeypatch.setenv(PEPPER_ENV, wrong)
        store = open_store(config, router_name="r1")
        with pytest.raises(StoreError, match=PEPPER_ENV):
            await store.start()
        await store.stop()


# groups: a tenant, a model, all requests


def group(name: str, **limits: float) -> LimitGroup:
    return LimitGroup.of(TENANT, name, Tenant(name, **limits))  # type: ignore[arg-type]


async def take_all(store: Store, *holders: Holder, tokens: int = 10, output: int = 0) -> Reservation | Refusal:
    amounts, now_s = Amounts(1, tokens, output), time.monotonic()
    taken = together.reserve_now(store, holders, amounts, "r", now_s)
    return await together.reserve(store, holders, amounts, "r", now_s) if taken is None else taken


async def test_a_request_takes_from_all_its_accounts_or_from_none(store: Store) -> None:
    key, _ = await store.create_key("a", tenant="acme")
    other, _ = await store.create_key("b", tenant="acme")
    acme, everybody = group("acme", requests_per_minute=3), group("all", tokens_per_minute=1000)
    for holder in (key, other, key):
        assert isinstance(await take_all(store, holder, acme, everybody), Reservation)
    for holder in (other, key):
        no = await take_all(store, holder, acme, everybody)
        assert isinstance(no, Refusal)
        assert (no.limit, no.holder) == ("requests", acme)
        assert no.retry_after_s == pytest.approx(20, abs=2)
    await settles(store, acme, requests=3)
    await settles(store, key, requests=2, concurrent=2)
    await settles(store, other, requests=1, concurrent=1)
    await settles(store, everybody, tokens=30)
    assert (await used(store, everybody))["tokens"] > 20


async def test_all_accounts_are_settled_together(store: Store) -> None:
    key, _ = await store.create_key("a")
    acme = group("acme", output_tokens_per_minute=1000, prompt_tokens_per_minute=1000, concurrent=5, budget_usd_day=1.0)
    taken = await take_all(store, key, acme, tokens=100, output=500)
    assert isinstance(taken, Reservation)
    together.settle(store, taken, Amounts(1, 80, 20, 70_000))
    await settles(store, acme, prompt_tokens=80, output_tokens=20, concurrent=0)
    await settles(store, key, tokens=100, concurrent=0)

    async def charged() -> bool:
        return (await used(store, acme))["budget_day"] == 0.07

    await eventually(charged)


async def test_what_was_used_without_a_reservation_is_charged(store: Store) -> None:
    acme = group("acme", tokens_per_minute=1000)
    store.charge(acme, Amounts(1, 900, 300))

    async def charged() -> bool:
        return (await used(store, acme))["tokens"] > 1190

    await eventually(charged)
    no = await take_all(store, acme)
    assert isinstance(no, Refusal)
    await store.reset_quota(acme)
    await settles(store, acme, tokens=0)
