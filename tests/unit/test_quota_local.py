"""What a router decides about quotas by itself: purses, shares, the breaker, the snapshot of keys, words."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from router.config import AuthSection, Plan
from router.core.quota import Account, Cost, Grant, Limits, Standing, Verdict, month_of
from router.errors import RouterError
from router.gateway.auth import Authenticator
from router.store.answers import limit_states, limits_of, refusal
from router.store.base import Key, Refusal, Reservation
from router.store.degraded import PROBE_S, PROBE_S_MAX, Breaker, Share
from router.store.keys import KeyRecord, Ring, new_key
from router.store.memory import MemoryStore
from router.store.purse import DENY_S, HOLD_S, Purse

NOW_US = 1_800_000_000_000_000
PLAN = Plan("p", requests_per_minute=60_000, tokens_per_minute=6_000_000, concurrent=1000, budget_usd_month=100.0)
LEASE_S = 15.0


def new_purse(plan: Plan = PLAN) -> Purse:
    serial = itertools.count()
    return Purse("k1", plan, 0.0, lambda: f"s{next(serial)}")


def filled(purse: Purse, requests: int = 10, tokens: int = 1000, slots: int = 10, microusd: int = 0) -> Purse:
    names = tuple(f"held{i}" for i in range(slots))
    purse.granted(Grant(requests, tokens, microusd, slots), names, 0.0)
    purse.note(Standing(NOW_US, 1_000_000, 2_000_000, slots, 5), 0.0, LEASE_S)
    return purse


def demand(purse: Purse, rate: float, seconds: float, start_s: float = 0.0) -> float:
    """Serve requests at a steady rate from the store; returns the time at the end."""
    now_s = start_s
    while now_s < start_s + seconds:
        now_s += 1 / rate
        taken = purse.reservation("store", 100, 0, "r", None, now_s)
        purse.inflight -= 1
        assert taken.source == "store"
        purse.roll(now_s)
    return now_s


# purses


def test_a_purse_gives_what_it_holds_and_no_more() -> None:
    purse = filled(new_purse(), requests=3, tokens=250, slots=2, microusd=50)
    first = purse.take(100, 20, "a", 1.0)
    assert first is not None
    assert first.source == "allowance"
    assert first.slot in {"held0", "held1"}
    assert first.limit_requests == 60_000
    assert first.remaining_requests == 59_000 + 2
    assert first.reset_tokens_s == pytest.approx(1.0)
    assert purse.take(151, 0, "b", 1.0) is None  # tokens
    assert purse.take(10, 31, "b", 1.0) is None  # money
    assert purse.take(10, 0, "b", LEASE_S) is None  # held for too long
    assert purse.take(10, 0, "b", 1.0) is not None
    assert purse.take(10, 0, "c", 1.0) is None  # slots
    purse.put_back(1, 100, 20, first.slot)
    again = purse.take(200, 30, "c", 1.0)
    assert again is not None
    assert (purse.requests, purse.tokens) == (1, 40)
    assert purse.inflight == 3


def test_a_limit_the_plan_does_not_have_never_runs_out() -> None:
    purse = new_purse(Plan("p", tokens_per_minute=1000))
    purse.granted(Grant(1, 50), (), 0.0)
    purse.note(Standing(NOW_US, 0, 0, 0, 0), 0.0, LEASE_S)
    for _ in range(5):
        taken = purse.take(10, 10**9, "a", 1.0)
        assert taken is not None
        assert taken.limit_requests is None
    assert purse.take(10, 0, "a", 1.0) is None
    assert purse.settlement(1.0, LEASE_S) is None


def test_an_idle_purse_gives_everything_back_and_charges_its_debts() -> None:
    purse = filled(new_purse(), requests=3, tokens=250, slots=1)
    message = purse.settlement(1.0, LEASE_S)
    assert message is not None
    assert message.back == Cost(3, 250, 0)
    assert message.release == ("held0",)
    assert message.month == month_of(NOW_US)
    assert (purse.requests, purse.tokens, purse.idle, purse.held) == (0, 0, [], set())
    purse.put_back(0, -70, -9, None)
    assert purse.settlement(2.0, LEASE_S) is message  # until it is acknowledged, the same again
    purse.acknowledged()
    assert (purse.settlement(3.0, LEASE_S) or message).back == Cost(0, -70, -9)
    purse.acknowledged()
    assert purse.settlement(4.0, LEASE_S) is None


def test_slots_in_use_are_renewed_and_not_released() -> None:
    purse = filled(new_purse(), slots=2)
    taken = purse.take(1, 0, "a", 1.0)
    assert taken is not None
    message = purse.settlement(1.0, LEASE_S)
    assert message is not None
    assert message.renew == (taken.slot,)
    assert taken.slot not in message.release
    purse.acknowledged()
    assert purse.settlement(1.0 + LEASE_S / 3 - 0.1, LEASE_S) is None
    assert purse.settlement(1.0 + LEASE_S / 3, LEASE_S) is not None


def test_what_is_held_follows_the_demand() -> None:
    purse = new_purse()
    assert purse.want(0.0) is None
    now_s = demand(purse, rate=200, seconds=2)
    want = purse.want(now_s)
    assert want is not None
    cost, slots = want
    assert cost.requests == pytest.approx(200 * HOLD_S, rel=0.2)
    assert cost.tokens == pytest.approx(200 * HOLD_S * 100, rel=0.2)
    assert 5 <= len(slots) <= 40
    purse.granted(Grant(cost.requests, cost.tokens, 0, len(slots)), slots, now_s)
    assert purse.want(now_s) is None
    message = purse.settlement(now_s, LEASE_S)
    assert message is not None
    assert (message.back, message.release) == (Cost(), ())  # nothing is too much: the slots are renewed only
    purse.acknowledged()
    for _ in range(60):
        now_s += 0.25
        purse.roll(now_s)
    assert not purse.busy
    message = purse.settlement(now_s, LEASE_S)
    assert message is not None
    assert message.back == cost
    assert set(message.release) == set(slots)


def test_a_busy_purse_keeps_up_to_twice_what_it_aims_for_and_pays_debts_at_once() -> None:
    purse = new_purse()
    now_s = demand(purse, rate=200, seconds=2)
    aim = purse.want(now_s)
    assert aim is not None
    requests, tokens = aim[0].requests, aim[0].tokens
    purse.granted(Grant(2 * requests, 2 * tokens), (), now_s)
    assert purse.settlement(now_s, LEASE_S) is None
    purse.put_back(1, 0, 0, None)
    message = purse.settlement(now_s, LEASE_S)
    assert message is not None
    assert message.back == Cost(requests + 1, 0, 0)
    purse.acknowledged()
    purse.put_back(0, -2 * tokens - 5, 0, None)
    message = purse.settlement(now_s, LEASE_S)
    assert message is not None
    assert message.back == Cost(0, -5, 0)


def test_a_slow_key_holds_nothing() -> None:
    purse = new_purse()
    now_s = demand(purse, rate=0.8, seconds=10)
    assert not purse.busy
    assert purse.want(now_s) is None


def test_an_empty_allowance_is_not_asked_for_again_at_once() -> None:
    purse = new_purse()
    now_s = demand(purse, rate=50, seconds=1)
    assert purse.want(now_s) is not None
    purse.granted(Grant(), (), now_s)
    assert purse.want(now_s + 0.05) is None
    assert purse.want(now_s + 0.15) is not None


def test_a_refusal_is_repeated_for_a_moment_and_forgotten_when_something_comes_back() -> None:
    purse = new_purse()
    no = Refusal("tokens", "no", 5.0)
    purse.refused(no, Cost(1, 100), 1.0)
    assert purse.still_denied(100, 0, 1.0 + DENY_S / 2) is no
    assert purse.still_denied(99, 0, 1.0 + DENY_S / 2) is None  # a smaller one may fit
    assert purse.still_denied(100, 0, 1.0 + DENY_S) is None
    purse.refused(no, Cost(1, 100), 2.0)
    purse.put_back(0, 1, 0, None)
    assert purse.still_denied(100, 0, 2.0) is None


def test_a_purse_adopts_another_plan() -> None:
    purse = filled(new_purse(), requests=5, tokens=500)
    purse.adopt(Plan("other", tokens_per_minute=100))
    assert purse.limits == Limits(None, 100)
    assert purse.tokens == 500
    purse.adopt(PLAN)
    assert purse.requests == 0
    purse.adopt(Plan("free"))
    assert purse.unlimited


def test_a_purse_is_put_away_only_when_nobody_could_miss_it() -> None:
    purse = new_purse()
    assert purse.spent_out(100.0, 60)
    assert not purse.spent_out(30.0, 60)
    purse.reservation("store", 1, 0, "r", None, 30.0)
    assert not purse.spent_out(1000.0, 60)
    purse.inflight -= 1
    purse.put_back(0, 5, 0, None)
    assert not purse.spent_out(1000.0, 60)
    assert purse.settlement(1000.0, LEASE_S) is not None
    purse.acknowledged()
    assert purse.spent_out(1000.0, 60)


# shares


def test_routers_share_what_was_left() -> None:
    limits = Limits(600, 60_000, None, 1000)
    account = Account(at_us=NOW_US, requests_us=30_000_000, month=month_of(NOW_US), spent_microusd=200)
    share = Share(limits, account, NOW_US, routers=3, unlimited=False)
    let_in = sum(share.reserve(Cost(1, 1, 1), NOW_US).limit is None for _ in range(500))
    assert let_in == 100  # half of a third of 600
    assert share.limits.budget_microusd == 200 + 800 // 3
    assert share.reserve(Cost(0, 1, 300), NOW_US).limit == "budget"


def test_what_was_shared_out_is_owed_as_far_as_it_still_counts() -> None:
    limits = Limits(600, 60_000, None, 10**9)
    account = Account(at_us=NOW_US, requests_us=10_000_000, month=month_of(NOW_US), spent_microusd=7)
    share = Share(limits, account, NOW_US, routers=2, unlimited=False)
    for _ in range(50):
        assert share.reserve(Cost(1, 100, 3), NOW_US).limit is None
    share.settle(Cost(0, 2000, 50), NOW_US)
    assert share.owed(NOW_US) == Cost(50, 3000, 100)
    later = share.owed(NOW_US + 4_000_000)
    # 300 requests and 30 000 tokens a minute have come back for four seconds; before that the account was not whole
    assert later == Cost(50, 1000, 100)
    assert share.owed(NOW_US + 60_000_000) == Cost(0, 0, 100)  # money is not forgiven by time


def test_an_unlimited_share_refuses_nothing_and_counts_up_to_the_limit() -> None:
    limits = Limits(60, None, None, 100)
    account = Account(at_us=NOW_US, month=month_of(NOW_US))
    share = Share(limits, account, NOW_US, routers=4, unlimited=True)
    assert all(share.reserve(Cost(1, 0, 10), NOW_US).limit is None for _ in range(500))
    assert share.owed(NOW_US) == Cost(60, 0, 5000)


# the breaker


def test_the_breaker_needs_two_failures_in_a_row() -> None:
    breaker = Breaker()
    assert not breaker.up
    assert breaker.recovered(0.0) is None
    assert not breaker.failed("a", 1.0)
    breaker.succeeded()
    assert not breaker.failed("b", 2.0)
    assert breaker.up
    assert breaker.failed("c", 2.5)
    assert not breaker.up
    assert not breaker.failed("d", 3.0)  # it is down already: no second announcement
    assert breaker.recovered(4.5) == 2.0
    assert breaker.up


def test_a_store_that_comes_and_goes_is_probed_less_and_less_often() -> None:
    breaker, now_s, waits = Breaker(), 0.0, []
    breaker.recovered(now_s)
    for _ in range(6):
        now_s += 1.0
        breaker.failed("x", now_s)
        assert breaker.failed("x", now_s)
        waits.append(breaker.probe_s)
        breaker.recovered(now_s + 0.5)
    assert waits == sorted(waits)
    assert waits[-1] == PROBE_S_MAX
    breaker.failed("x", now_s + 100)
    assert breaker.failed("x", now_s + 100)
    assert breaker.probe_s == PROBE_S


# keys


def test_a_ring_finds_keys_by_their_secret_only() -> None:
    ring = Ring({"default": PLAN})
    with pytest.raises(RouterError) as caught:
        ring.lookup(b"mr-x")
    assert caught.value.code == "store_unavailable"
    record, secret = new_key("a", "default", None, 5.0, b"pepper")
    ring.load([record], b"pepper")
    key = ring.lookup(secret.encode())
    assert key is not None
    assert (key.plan, key.tenant, key.plan_missing) == (PLAN, "a", False)
    assert ring.lookup(secret.encode()) is key
    assert ring.lookup(secret.encode() + b"x") is None
    assert ring.lookup(record.digest.encode()) is None
    assert ring.lookup(bytes.fromhex(record.digest)) is None
    ring.load([record], b"other")
    assert ring.lookup(secret.encode()) is None  # also from the cache
    assert ring.all() == [ring.get(record.id)]


def test_a_key_whose_plan_is_gone_is_refused_with_the_reason_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    europe = Plan("eu", residency=("eu",))
    ring = Ring({"default": PLAN, "eu": europe})
    record, secret = new_key("a", "eu", None, 5.0, b"pepper")
    other, _ = new_key("b", "eu", None, 6.0, b"pepper")
    revoked = dataclasses.replace(new_key("c", "eu", None, 7.0, b"pepper")[0], revoked=True)
    ring.load([record, other, revoked], b"pepper")
    for mode in ("keys", "open"):
        authenticator = Authenticator(AuthSection(mode=mode), {"default": PLAN}, ring)
        assert authenticator.key_of(secret.encode()).plan is europe
        ring.set_plans({"default": PLAN, "europe": europe})
        with pytest.raises(RouterError, match='"eu"') as caught:
            authenticator.key_of(secret.encode())
        assert caught.value.code == "forbidden"
        ring.set_plans({"default": PLAN, "eu": europe})
    assert authenticator.key_of(secret.encode()).plan is europe
    caplog.clear()
    ring.set_plans({"default": PLAN})
    ring.set_plans({"default": PLAN})
    ring.load([record, other, revoked], b"pepper")
    (said,) = [r.getMessage() for r in caplog.records]
    assert record.id in said
    assert other.id in said
    assert revoked.id not in said


def test_a_record_survives_its_encoding_and_holds_no_secret() -> None:
    record, secret = new_key("a", "p", "acme", 5.0, b"pepper")
    assert KeyRecord.decode(record.id, record.encode()) == record
    assert secret.encode() not in record.encode()
    for garbage in (b"", b"{}", b"[]", b'{"name": 1}', record.encode().replace(record.digest.encode(), b"xyz")):
        assert KeyRecord.decode("k", garbage) is None


def test_no_two_secrets_are_alike() -> None:
    secrets = {new_key("a", "p", None, 0.0, b"x")[1] for _ in range(200)}
    assert len(secrets) == 200
    assert all(len(s) == 46 and s.startswith("mr-") for s in secrets)


# words


def test_a_refusal_names_the_limit_what_is_used_and_when_to_come_back() -> None:
    limits = limits_of(Plan("p", 600, 200_000, 64, 500.0))
    assert limits == Limits(600, 200_000, 64, 500_000_000)
    standing = Standing(NOW_US, 60_000_000, 59_000_000, 64, 499_990_000)
    said = refusal(limits, Verdict("requests", wait_us=100_000), standing, Cost(1, 10))
    assert said.detail == (
        "Limit reached: 600 of 600 requests per minute are used and this request needs 1. Retry in 100 ms; the limit "
        "is whole again in 60.0 s."
    )
    assert (said.retry_after_s, said.remaining_requests, said.remaining_tokens) == (0.1, 0, 3333)
    said = refusal(limits, Verdict("budget", wait_us=90_061_000_000), standing, Cost(1, 10, 20_000))
    assert said.detail == (
        "Budget reached: 499.99 of 500.00 USD of this month are used and this request may cost 0.02 USD. "
        "The month ends in 25 h 2 min."
    )
    said = refusal(limits, Verdict("tokens", never=True), standing, Cost(1, 300_000))
    assert "needs 300000" in said.detail
    assert said.retry_after_s is None
    said = refusal(limits, Verdict("concurrent", wait_us=1_000_000), standing, Cost(1))
    assert said.detail == "Limit reached: 64 of 64 concurrent requests are in progress."


def test_the_states_of_all_limits() -> None:
    limits = Limits(600, None, 64, 500_000_000)
    states = limit_states(limits, Standing(NOW_US, 6_000_000, 0, 3, 250_000_000), "global")
    assert [(s.limit, s.max, s.used, s.remaining, s.scope) for s in states] == [
        ("requests", 600, 60, 540, "global"),
        ("concurrent", 64, 3, 61, "global"),
        ("budget", 500.0, 250.0, 250.0, "global"),
    ]
    assert states[0].reset_s == 6.0
    assert states[1].reset_s is None


# memory


def test_the_store_in_memory_answers_at_once() -> None:
    now_s = 100.0
    store = MemoryStore({"default": PLAN}, monotonic_s=lambda: now_s, wall_s=lambda: 1_800_000_000.0)
    key = Key("k", "k", "t", Plan("p", requests_per_minute=2, concurrent=2), 0.0, False)
    first = store.reserve_now(key, 5, "r", now_s)
    second = store.reserve_now(key, 5, "r", now_s)  # the same request id twice: two slots all the same
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    assert first.slot != second.slot
    no = store.reserve_now(key, 5, "r", now_s)
    assert isinstance(no, Refusal)
    assert (no.limit, no.retry_after_s) == ("requests", 30.0)
    store.settle(first, None)
    assert isinstance(store.reserve_now(key, 5, "r", now_s), Reservation)
    store.settle(second, 5)
    assert isinstance(store.reserve_now(key, 5, "r", now_s + 29.9), Refusal)
    assert isinstance(store.reserve_now(key, 5, "r", now_s + 30.0), Reservation)
