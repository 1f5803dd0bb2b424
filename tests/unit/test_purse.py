"""The decisions about quotas that a router takes by itself: purses, shares, the breaker, the snapshot of keys, words."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from router.config import AuthSection, Plan
from router.core.limits import INDEX, NOTHING, Amounts, Limits, Units, cost
from router.core.periods import MONTH
from router.core.quota import Account, Shortfall, Standing
from router.errors import RouterError
from router.gateway.auth import Authenticator
from router.store.answers import limit_states, refusal
from router.store.appetite import HOLD_S
from router.store.base import Key, Refusal, Reservation, Shown
from router.store.degraded import PROBE_S, PROBE_S_MAX, Breaker, Share
from router.store.keys import KeyRecord, Ring, new_key
from router.store.memory import MemoryStore
from router.store.purse import DENY_S, TOLD_S, Purse

NOW_US = 1_800_000_000_000_000
PLAN = Plan("p", requests_per_minute=60_000, tokens_per_minute=6_000_000, concurrent=1000, budget_usd_month=100.0)
LEASE_S = 15.0
R, T, C, B = (INDEX[name] for name in ("requests", "tokens", "concurrent", "budget"))


def units(requests: int = 0, tokens: int = 0, microusd: int = 0) -> Units:
    return cost(Amounts(requests, tokens, 0, microusd))


def took(requests: int = 0, tokens: int = 0, microusd: int = 0, slots: int = 0) -> Units:
    """An allowance, or a settlement, in which the number of slots stands for itself."""
    taken = list(NOTHING)
    taken[R], taken[T], taken[C], taken[B] = requests, tokens, slots, microusd
    return tuple(taken)


def standing(requests_us: int, tokens_us: int, slots: int, microusd: int) -> Standing:
    return Standing(NOW_US, took(requests_us, tokens_us, microusd, slots))


def account(requests_us: int = 0, tokens_us: int = 0, microusd: int = 0) -> Account:
    return Account.seen(NOW_US, took(requests_us, tokens_us, microusd))


def told(answer: Reservation | Refusal, limit: str) -> Shown:
    return next(rate for rate in answer.shown if rate.limit == limit)


def new_purse(plan: Plan = PLAN) -> Purse:
    serial = itertools.count()
    return Purse("k1", plan, 0.0, lambda: f"s{next(serial)}")


def filled(purse: Purse, requests: int = 10, tokens: int = 1000, slots: int = 10, microusd: int = 0) -> Purse:
    names = tuple(f"held{i}" for i in range(slots))
    purse.taken.asked()
    purse.granted(took(requests, tokens, microusd, slots), names, 0.0, LEASE_S)
    purse.note(standing(1_000_000, 2_000_000, slots, 5), 0.0)
    return purse


def demand(purse: Purse, rate: float, seconds: float, start_s: float = 0.0) -> float:
    """Serve requests at a steady rate from the store; returns the time at the end."""
    now_s = start_s
    while now_s < start_s + seconds:
        now_s += 1 / rate
        taken = purse.reservation("store", units(1, 100), "r", None, now_s)
        purse.inflight -= 1
        assert taken.source == "store"
        purse.roll(now_s)
    return now_s


# purses


def test_a_purse_gives_what_it_holds_and_no_more() -> None:
    purse = filled(new_purse(), requests=3, tokens=250, slots=2, microusd=50)
    first = purse.take(units(1, 100, 20), "a", 1.0)
    assert first is not None
    assert first.source == "allowance"
    assert first.slot in {"held0", "held1"}
    assert told(first, "requests").most == 60_000
    assert told(first, "requests").remaining == 59_000 + 2
    assert told(first, "tokens").reset_s == pytest.approx(1.0)
    assert purse.take(units(1, 151, 0), "b", 1.0) is None  # tokens
    assert purse.take(units(1, 10, 31), "b", 1.0) is None  # money
    assert purse.take(units(1, 10, 0), "b", LEASE_S) is None  # held for too long
    assert purse.take(units(1, 10, 0), "b", 1.0) is not None
    assert purse.take(units(1, 10, 0), "c", 1.0) is None  # slots
    purse.put_back(took(1, 100, 20), took(), first.slot)
    again = purse.take(units(1, 200, 30), "c", 1.0)
    assert again is not None
    assert purse.balance[:2] == [1, 40]
    assert purse.inflight == 3


def test_a_busy_key_is_told_its_rates_as_of_a_moment_ago() -> None:
    for busy in (False, True):
        purse = filled(new_purse(), requests=1000, tokens=100_000, slots=1000)
        purse.busy = busy
        taken = [purse.take(units(1, 10), "r", now_s) for now_s in (1.0, 1.0 + TOLD_S / 2, 1.0 + TOLD_S)]
        left = [told(one, "requests").remaining for one in taken if one is not None]
        assert left == [left[0], left[0] - (not busy), left[0] - 2]


def test_a_limit_the_plan_does_not_have_never_runs_out() -> None:
    purse = new_purse(Plan("p", tokens_per_minute=1000))
    purse.granted(took(1, 50), (), 0.0, LEASE_S)
    purse.note(standing(0, 0, 0, 0), 0.0)
    for _ in range(5):
        taken = purse.take(units(1, 10, 10**9), "a", 1.0)
        assert taken is not None
        assert [rate.limit for rate in taken.shown] == ["tokens"]
    assert purse.take(units(1, 10, 0), "a", 1.0) is None
    assert purse.settlement(1.0) is None


def test_an_idle_purse_gives_everything_back_and_charges_its_debts() -> None:
    purse = filled(new_purse(), requests=3, tokens=250, slots=1)
    message = purse.settlement(1.0)
    assert message is not None
    assert message.back == took(3, 250, 0)
    assert message.release == ("held0",)
    assert message.taken_us == NOW_US
    assert (purse.balance[R], purse.balance[T], purse.slots.idle, purse.slots.held) == (0, 0, [], {})
    purse.put_back(took(0, -70, -9), took(), None)
    assert purse.settlement(2.0) is message  # until it is acknowledged, the same again
    purse.acknowledged()
    assert (purse.settlement(3.0) or message).back == took(0, -70, -9)
    purse.acknowledged()
    assert purse.settlement(4.0) is None


def test_slots_in_use_are_not_released() -> None:
    purse = filled(new_purse(), slots=2)
    taken = purse.take(units(1, 1, 0), "a", 1.0)
    assert taken is not None
    message = purse.settlement(1.0)
    assert message is not None
    assert len(message.release) == 1
    assert taken.slot not in message.release
    assert list(purse.slots.held) == [taken.slot]


def test_what_is_held_follows_the_demand() -> None:
    purse = new_purse()
    assert purse.want(0.0) is None
    now_s = demand(purse, rate=200, seconds=2)
    want = purse.want(now_s)
    assert want is not None
    cost, slots = want
    assert cost[R] == pytest.approx(200 * HOLD_S, rel=0.2)
    assert cost[T] == pytest.approx(200 * HOLD_S * 100, rel=0.2)
    assert 5 <= len(slots) <= 40
    purse.granted(took(cost[R], cost[T], 0, len(slots)), slots, now_s, now_s + LEASE_S)
    assert purse.want(now_s) is None
    assert purse.settlement(now_s) is None, "nothing is too much"
    for _ in range(60):
        now_s += 0.25
        purse.roll(now_s)
    assert not purse.busy
    message = purse.settlement(now_s)
    assert message is not None
    assert message.back == took(cost[R], cost[T])
    assert set(message.release) == set(slots)


def test_a_busy_purse_keeps_up_to_twice_what_it_aims_for_and_pays_debts_at_once() -> None:
    purse = new_purse()
    now_s = demand(purse, rate=200, seconds=2)
    aim = purse.want(now_s)
    assert aim is not None
    requests, tokens = aim[0][R], aim[0][T]
    purse.granted(took(2 * requests, 2 * tokens), (), now_s, now_s + LEASE_S)
    assert purse.settlement(now_s) is None
    purse.put_back(took(1, 0, 0), took(), None)
    message = purse.settlement(now_s)
    assert message is not None
    assert message.back == took(requests + 1, 0, 0)
    purse.acknowledged()
    purse.put_back(took(0, -2 * tokens - 5, 0), took(), None)
    message = purse.settlement(now_s)
    assert message is not None
    assert message.back == took(0, -5, 0)


def test_a_slow_key_holds_nothing() -> None:
    purse = new_purse()
    now_s = demand(purse, rate=0.8, seconds=10)
    assert not purse.busy
    assert purse.want(now_s) is None


def test_an_empty_allowance_is_not_asked_for_again_at_once() -> None:
    purse = new_purse()
    now_s = demand(purse, rate=50, seconds=1)
    assert purse.want(now_s) is not None
    purse.granted(took(), (), now_s, now_s)
    assert purse.want(now_s + 0.05) is None
    assert purse.want(now_s + 0.15) is not None


def test_a_refusal_is_repeated_for_a_moment_and_forgotten_when_something_comes_back() -> None:
    purse = new_purse()
    no = Refusal("tokens", "no", 5.0)
    purse.refused(no, units(1, 100), 1.0)
    assert purse.still_denied(units(1, 100), 1.0 + DENY_S / 2) is no
    assert purse.still_denied(units(1, 99), 1.0 + DENY_S / 2) is None  # a smaller one may fit
    assert purse.still_denied(units(1, 100), 1.0 + DENY_S) is None
    purse.refused(no, units(1, 100), 2.0)
    purse.put_back(took(0, 1, 0), took(), None)
    assert purse.still_denied(units(1, 100), 2.0) is None


def test_a_purse_adopts_another_plan() -> None:
    purse = filled(new_purse(), requests=5, tokens=500)
    purse.adopt(Plan("other", tokens_per_minute=100))
    assert purse.limits == Limits(None, 100)
    assert purse.balance[T] == 500
    purse.adopt(PLAN)
    assert purse.balance[R] == 0
    purse.adopt(Plan("free"))
    assert purse.unlimited


def test_a_purse_is_put_away_only_when_nobody_could_miss_it() -> None:
    purse = new_purse()
    assert purse.spent_out(100.0, 60)
    assert not purse.spent_out(30.0, 60)
    purse.reservation("store", units(1, 1), "r", None, 30.0)
    assert not purse.spent_out(1000.0, 60)
    purse.inflight -= 1
    purse.put_back(took(0, 5, 0), took(), None)
    assert not purse.spent_out(1000.0, 60)
    assert purse.settlement(1000.0) is not None
    purse.acknowledged()
    assert purse.spent_out(1000.0, 60)


# shares


def test_routers_share_what_was_left() -> None:
    limits = Limits(600, 60_000, None, 1000)
    seen = account(30_000_000, microusd=200)
    share = Share(limits, seen, NOW_US, routers=3, unlimited=False)
    let_in = sum(share.reserve(units(1, 1, 1), NOW_US) is None for _ in range(500))
    assert let_in == 100  # half of a third of 600
    assert share.limits[B] == 200 + 800 // 3
    shortfall = share.reserve(units(0, 1, 300), NOW_US)
    assert shortfall is not None
    assert shortfall.limit == "budget"


def test_what_was_shared_out_is_owed_as_far_as_it_still_counts() -> None:
    limits = Limits(600, 60_000, None, 10**9)
    seen = account(requests_us=10_000_000, microusd=7)
    share = Share(limits, seen, NOW_US, routers=2, unlimited=False)
    for _ in range(50):
        assert share.reserve(units(1, 100, 3), NOW_US) is None
    share.settle(units(0, 2000, 50), NOW_US)
    assert share.owed(NOW_US) == took(50, 3000, 100)
    later = share.owed(NOW_US + 4_000_000)
    # 300 requests and 30 000 tokens a minute have come back for four seconds; before that the account was not whole
    assert later == took(50, 1000, 100)
    assert share.owed(NOW_US + 60_000_000) == took(0, 0, 100)  # money is not forgiven by time


def test_a_share_that_outlives_its_month_owes_what_it_gave_out_in_the_new_one() -> None:
    end_us = MONTH.end_us(MONTH.number(NOW_US))
    share = Share(Limits(budget=1000), account(microusd=700), NOW_US, routers=2, unlimited=False)
    assert share.reserve(units(1, 0, 100), end_us) is None
    assert share.owed(end_us) == took(0, 0, 100)


def test_an_unlimited_share_refuses_nothing_and_counts_up_to_the_limit() -> None:
    limits = Limits(60, None, None, 100)
    seen = account()
    share = Share(limits, seen, NOW_US, routers=4, unlimited=True)
    assert all(share.reserve(units(1, 0, 10), NOW_US) is None for _ in range(500))
    assert share.owed(NOW_US) == took(60, 0, 5000)


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
    limits = Plan("p", requests_per_minute=600, tokens_per_minute=200_000, concurrent=64, budget_usd_month=500.0).limits
    assert limits == Limits(600, 200_000, 64, 500_000_000)
    seen = standing(60_000_000, 59_000_000, 64, 499_990_000)
    said = refusal(limits, Shortfall("requests", wait_us=100_000), seen, units(1, 10))
    assert said.detail == (
        "Limit reached: 600 of 600 requests per minute are used and this request needs 1. Retry in 100 ms; the limit "
        "is fully free in 60.0 s."
    )
    assert (said.retry_after_s, [rate.remaining for rate in said.shown]) == (0.1, [0, 3333])
    said = refusal(limits, Shortfall("budget", wait_us=90_061_000_000), seen, units(1, 10, 20_000))
    assert said.detail == (
        "Budget reached: 499.99 of 500.00 USD of this month are used and this request may cost 0.02 USD. "
        "The month ends in 25 h 2 min."
    )
    said = refusal(limits, Shortfall("tokens", never=True), seen, units(1, 300_000))
    assert "needs 300000" in said.detail
    assert said.retry_after_s is None
    said = refusal(limits, Shortfall("concurrent", wait_us=1_000_000), seen, units(1))
    assert said.detail == "Limit reached: 64 of 64 concurrent requests are in progress."


def test_the_states_of_all_limits() -> None:
    limits = Limits(600, None, 64, 500_000_000)
    states = limit_states(limits, standing(6_000_000, 0, 3, 250_000_000), "global")
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
    first = store.reserve_now(key, Amounts(1, 5), "r", now_s)
    second = store.reserve_now(key, Amounts(1, 5), "r", now_s)  # the same request id twice: two slots all the same
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    assert first.slot != second.slot
    no = store.reserve_now(key, Amounts(1, 5), "r", now_s)
    assert isinstance(no, Refusal)
    assert (no.limit, no.retry_after_s) == ("requests", 30.0)
    store.settle(first, None)
    assert isinstance(store.reserve_now(key, Amounts(1, 5), "r", now_s), Reservation)
    store.settle(second, Amounts(1, 5))
    assert isinstance(store.reserve_now(key, Amounts(1, 5), "r", now_s + 29.9), Refusal)
    assert isinstance(store.reserve_now(key, Amounts(1, 5), "r", now_s + 30.0), Reservation)
