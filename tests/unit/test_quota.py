"""The arithmetic of quotas. That Lua computes the same is tested in integration/store."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.limits import INDEX, NOTHING, Amounts, Limits, Units
from router.core.limits import cost as cost_of
from router.core.periods import DAY_US, month_end_us, month_of
from router.core.quota import (
    MINUTE_US,
    Account,
    Shortfall,
    advance,
    charge_us,
    grant,
    refund_us,
    reserve,
    settle,
    take_over,
    under,
)

NOW_US = 1_800_000_000_000_000
LEASE_US = 15_000_000
R, T, C, B = (INDEX[name] for name in ("requests", "tokens", "concurrent", "budget"))


def units(requests: int = 0, tokens: int = 0, microusd: int = 0) -> Units:
    return cost_of(Amounts(requests, tokens, 0, microusd))


def per_kind(requests: int = 0, tokens: int = 0, slots: int = 0, budget: int = 0) -> Units:
    units = list(NOTHING)
    units[R], units[T], units[C], units[B] = requests, tokens, slots, budget
    return tuple(units)


def used(requests_us: int = 0, tokens_us: int = 0, microusd: int = 0) -> list[int]:
    return list(per_kind(requests_us, tokens_us, 0, microusd))


def take(account: Account, limits: Limits, now_us: int, cost: Units, *slots: str) -> Shortfall | None:
    return reserve(account, limits, now_us, cost, slots=slots, lease_us=LEASE_US)


def name(shortfall: Shortfall | None) -> str | None:
    return None if shortfall is None else shortfall.limit


def give_back(account: Account, limits: Limits, now_us: int, back: Units, **rest: Any) -> None:
    rest = {"taken_us": account.at_us, "lease_us": LEASE_US} | rest
    settle(account, limits, now_us, back, **rest)


# rates

RATE = st.one_of(st.integers(1, 10_000), st.integers(1, 10**9))


@given(RATE, st.lists(st.tuples(st.integers(0, 30_000_000), st.integers(1, 50)), min_size=1, max_size=60))
def test_over_any_period_no_more_is_admitted_than_the_burst_and_the_rate(
    per_minute: int, steps: list[tuple[int, int]]
) -> None:
    account, limits, now_us = Account(), Limits(per_minute), NOW_US
    admitted: list[tuple[int, int]] = []
    for wait_us, count in steps:
        now_us += wait_us
        if take(account, limits, now_us, units(count)) is None:
            admitted.append((now_us, count))
    for i, (start_us, _) in enumerate(admitted):
        total = 0
        for end_us, count in admitted[i:]:
            total += count
            assert total * MINUTE_US <= per_minute * (MINUTE_US + end_us - start_us)


@given(RATE, st.integers(1, 1000), st.integers(1, 1000))
def test_the_wait_is_exact(per_minute: int, first: int, second: int) -> None:
    account, limits = Account(), Limits(tokens=per_minute)
    while take(account, limits, NOW_US, units(0, first)) is None:
        if account.used[T] < MINUTE_US // 1000:
            account.used[T] = MINUTE_US - charge_us(first, per_minute)  # get near the limit at once
    verdict = take(account, limits, NOW_US, units(0, second))
    if verdict is None or verdict.never:
        return
    assert name(take(account, limits, NOW_US + verdict.wait_us - 1, units(0, second))) == "tokens"
    assert take(account, limits, NOW_US + verdict.wait_us, units(0, second)) is None


@given(RATE, st.integers(0, 10**8), st.integers(0, 10**8))
def test_rounding_never_favours_the_client_and_costs_it_less_than_a_microsecond(
    per_minute: int, a: int, b: int
) -> None:
    assert charge_us(a, per_minute) * per_minute >= a * MINUTE_US
    assert (charge_us(a, per_minute) - 1) * per_minute < a * MINUTE_US
    assert refund_us(a, per_minute) * per_minute <= a * MINUTE_US
    assert charge_us(a, per_minute) + charge_us(b, per_minute) >= charge_us(min(a + b, 10**8), per_minute)


@given(st.sampled_from([60, 600, 6000, 200_000, 10**6]), st.integers(1, 60), st.integers(0, 60_000_000))
def test_to_reserve_and_give_back_is_to_have_done_nothing(per_minute: int, count: int, before_us: int) -> None:
    account, limits = Account.seen(NOW_US, used(before_us)), Limits(per_minute)
    if take(account, limits, NOW_US, units(count)) is None:
        give_back(account, limits, NOW_US, units(count))
    assert account.used[R] == before_us


def test_a_settlement_is_signed() -> None:
    account, limits = Account(), Limits(None, 60_000)
    take(account, limits, NOW_US, units(1, 30_000))
    give_back(account, limits, NOW_US, units(0, 10_000))
    assert account.used[T] == 20_000_000
    give_back(account, limits, NOW_US, units(0, -50_000))
    assert account.used[T] == 70_000_000  # used beyond the limit: a debt
    verdict = take(account, limits, NOW_US, units(1, 6000))
    assert verdict == Shortfall("tokens", wait_us=16_000_000)
    give_back(account, limits, NOW_US, units(0, 10**7))
    assert account.used[T] == 0  # never fuller than full


def test_a_refund_rounds_down() -> None:
    account = Account.seen(NOW_US, used(20_000_000))
    give_back(account, Limits(7), NOW_US, units(1))
    assert account.used[R] == 20_000_000 - 8_571_428  # 8571428.57 us per request


def test_a_cost_above_the_limit_is_refused_for_good() -> None:
    limits = Limits(10, 1000, 2, 500)
    for cost, limit in ((units(11), "requests"), (units(1, 1001), "tokens"), (units(1, 1, 501), "budget")):
        assert take(Account(), limits, NOW_US, cost) == Shortfall(limit, never=True)
    assert take(Account(), limits, NOW_US, units(1), "a", "b", "c") == Shortfall("concurrent", never=True)
    assert take(Account(), limits, NOW_US, units(10, 1000, 500), "a", "b") is None


def test_the_limit_with_the_longest_wait_is_named() -> None:
    limits = Limits(60, 600, 1, 100)
    account = Account.seen(NOW_US, used(MINUTE_US, MINUTE_US + 5_000_000))
    assert take(account, limits, NOW_US, units(1, 10)) == Shortfall("tokens", wait_us=6_000_000)
    account.used[T] = 0
    assert take(account, limits, NOW_US, units(2, 10)) == Shortfall("requests", wait_us=2_000_000)
    account.used[R], account.used[B] = 0, 100
    end_us = month_end_us(month_of(NOW_US))
    assert take(account, limits, NOW_US, units(1, 10, 1)) == Shortfall("budget", wait_us=end_us - NOW_US)


COSTS = st.builds(units, st.integers(0, 3), st.integers(0, 400), st.integers(0, 400))


@given(st.lists(st.tuples(st.integers(0, 5_000_000), COSTS, st.booleans()), max_size=40))
def test_all_limits_are_taken_together_or_none(steps: list[tuple[int, Units, bool]]) -> None:
    account, limits, now_us = Account(), Limits(20, 1000, 3, 2000), NOW_US
    for number, (wait_us, cost, slotted) in enumerate(steps):
        now_us += wait_us
        slots = (f"s{number}",) if slotted else ()
        advance(account, now_us, LEASE_US)
        before = account.standing()
        verdict = take(account, limits, now_us, cost, *slots)
        after = account.standing()
        if verdict is not None:
            assert after == before
        else:
            assert after.used[R] == before.used[R] + charge_us(cost[R], 20)
            assert after.used[T] == before.used[T] + charge_us(cost[T], 1000)
            assert after.used[C] == before.used[C] + len(slots) <= 3
            assert after.used[B] == before.used[B] + cost[B] <= 2000


# concurrency


def test_a_slot_is_free_again_when_it_is_released_or_its_lease_is_over() -> None:
    account, limits = Account(), Limits(concurrent=2)
    assert take(account, limits, NOW_US, units(1), "a") is None
    assert take(account, limits, NOW_US + 5_000_000, units(1), "b") is None
    assert take(account, limits, NOW_US + 5_000_000, units(1), "c") == Shortfall("concurrent", wait_us=1_000_000)
    give_back(account, limits, NOW_US + 6_000_000, units(), renew=("b",), release=("x",))
    assert name(take(account, limits, NOW_US + LEASE_US - 1, units(1), "c")) == "concurrent"
    assert take(account, limits, NOW_US + LEASE_US, units(1), "c") is None  # the lease of a is over
    give_back(account, limits, NOW_US + LEASE_US, units(), release=("b",))
    assert list(account.slots) == ["c"]


def test_a_slot_that_was_lost_comes_back_when_it_is_renewed() -> None:
    account, limits = Account(), Limits(concurrent=1)
    give_back(account, limits, NOW_US, units(), renew=("a",))
    assert name(take(account, limits, NOW_US, units(1), "b")) == "concurrent"


# budget


def test_a_budget_begins_anew_each_month() -> None:
    limits, account = Limits(budget=100), Account()
    end_us = month_end_us(month_of(NOW_US))
    assert take(account, limits, end_us - 1, units(1, 0, 100)) is None
    assert take(account, limits, end_us - 1, units(1, 0, 1)) == Shortfall("budget", wait_us=1)
    assert take(account, limits, end_us, units(1, 0, 60)) is None
    give_back(account, limits, end_us, units(0, 0, 100), taken_us=end_us - 1)
    assert account.used[B] == 60  # money of the old month is not given back to the new one
    give_back(account, limits, end_us, units(0, 0, -50), taken_us=end_us - 1)
    assert account.used[B] == 110  # but what was used beyond is charged


# clocks


def test_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out() -> None:
    limits, account = Limits(60), Account()
    take(account, limits, NOW_US, units(60))
    advance(account, NOW_US - 10_000_000, LEASE_US)
    assert account.used[R] == MINUTE_US
    advance(account, NOW_US + 1_000_000, LEASE_US)
    assert account.used[R] == MINUTE_US - 1_000_000  # the small step back was waited out
    advance(account, NOW_US - DAY_US, LEASE_US)
    assert account.used[R] == MINUTE_US - 1_000_000  # the large one is believed, and counts as no time either
    assert take(account, limits, NOW_US - DAY_US + 5_000_000, units(1)) is None


def test_slots_of_a_clock_that_was_far_ahead_do_not_stay() -> None:
    limits, account = Limits(concurrent=1), Account()
    take(account, limits, NOW_US + DAY_US, units(1), "a")
    assert take(account, limits, NOW_US, units(1), "b") is None


# allowances

WANT = st.builds(units, st.integers(1, 1000), st.integers(0, 100_000), st.integers(0, 100_000))


@given(WANT, st.integers(1, 8), st.integers(0, MINUTE_US), st.integers(0, MINUTE_US), st.integers(0, 10**6))
def test_an_allowance_takes_at_most_its_part_of_what_is_left(
    want: Units, divisor: int, requests_us: int, tokens_us: int, spent: int
) -> None:
    limits = Limits(600, 60_000, None, 10**6)
    account = Account.seen(NOW_US, used(requests_us, tokens_us, spent))
    got = grant(account, limits, NOW_US, want, divisor=divisor, lease_us=LEASE_US)
    assert got[R] <= want[R]
    assert got[R] * divisor * MINUTE_US <= (MINUTE_US - requests_us) * 600
    assert got[T] * divisor * MINUTE_US <= (MINUTE_US - tokens_us) * 60_000
    assert got[B] * divisor <= 10**6 - spent
    assert account.used[R] == requests_us + charge_us(got[R], 600)
    assert account.used[T] == tokens_us + charge_us(got[T], 60_000)
    assert account.used[B] == spent + got[B]


def test_an_allowance_holds_the_first_of_the_slots_offered() -> None:
    account, limits = Account(), Limits(concurrent=8)
    got = grant(account, limits, NOW_US, units(4), slots=("a", "b", "c", "d"), divisor=4, lease_us=LEASE_US)
    assert got == per_kind(2, 0, 2)
    assert sorted(account.slots) == ["a", "b"]
    assert grant(account, limits, NOW_US, units(4), slots=("e",), divisor=8, lease_us=LEASE_US) == NOTHING


def test_an_allowance_is_cut_in_proportion() -> None:
    account, limits = Account(), Limits(600, 1000)
    got = grant(account, limits, NOW_US, units(100, 5000), divisor=2, lease_us=LEASE_US)
    assert (got[R], got[T]) == (10, 500)


@pytest.mark.parametrize("limits", [Limits(), Limits(None, 10)])
def test_only_a_plan_without_any_limit_is_unlimited(limits: Limits) -> None:
    assert limits.unlimited == (limits == Limits())


# limits that change

STEP = st.tuples(st.sampled_from([60, 600, 6000]), st.integers(0, 20_000_000), st.integers(1, 3000))


def left(account: Account, per_minute: int) -> tuple[int, int]:
    """Units used and left, as they are shown."""
    deficit_us = account.used[R]
    return -(-deficit_us * per_minute // MINUTE_US), max(0, (MINUTE_US - deficit_us) * per_minute // MINUTE_US)


def test_the_new_room_of_a_raised_limit_is_there_at_once() -> None:
    account = Account()
    assert take(account, Limits(600), NOW_US, units(600)) is None
    assert name(take(account, Limits(600), NOW_US, units(1))) == "requests"
    raised = Limits(6000)
    take_over(account, raised)
    assert left(account, 6000) == (600, 5400)
    assert take(account, raised, NOW_US, units(5400)) is None
    assert name(take(account, raised, NOW_US, units(1))) == "requests"


def test_a_debt_stays_as_long_as_its_units() -> None:
    account = Account.seen(NOW_US, used(90_000_000))
    take_over(account, Limits(600))
    take_over(account, Limits(6000))
    assert left(account, 6000) == (900, 5100)


def test_a_lowered_limit_holds_at_once_and_nobody_pays_for_longer_than_a_minute() -> None:
    for before, after in ((100, (100, 500)), (599, (599, 1)), (5000, (600, 0))):
        account, lowered = Account(), Limits(600)
        assert take(account, Limits(6000), NOW_US, units(before)) is None
        take_over(account, lowered)
        assert left(account, 600) == after
        assert take(account, lowered, NOW_US, units(after[1] + 1)) is not None
        assert take(account, lowered, NOW_US + MINUTE_US, units(600 - after[1])) is None


def test_a_standing_is_seen_under_the_limits_of_today() -> None:
    account = Account.seen(NOW_US, used(60_000_000, 30_000_000))
    seen = under(account.standing(), Limits(600, 1000), Limits(6000, 1000))
    assert seen.used[:2] == (6_000_000, 30_000_000)
    assert under(seen, Limits(6000, None), Limits(6000, 500)).used == seen.used


@given(st.lists(STEP, min_size=1, max_size=60))
def test_routers_that_disagree_about_a_limit_give_out_no_more_than_the_higher_one(
    steps: list[tuple[int, int, int]],
) -> None:
    """While the fleet takes over a change, some have the old limit and some the new one, in any order."""
    account, now_us, taken = Account(), NOW_US, list[tuple[int, int]]()
    most = max(per_minute for per_minute, _, _ in steps)
    for per_minute, pause_us, count in steps:
        now_us += pause_us
        if take(account, Limits(per_minute), now_us, units(count)) is None:
            taken.append((now_us, count))
    for i, (begin_us, _) in enumerate(taken):
        total = 0
        for at_us, count in taken[i:]:
            total += count
            assert total <= most + most * (at_us - begin_us) / MINUTE_US + 1


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 20)), min_size=1, max_size=60))
def test_a_low_limit_that_is_asked_for_between_takes_nothing_from_a_high_one(steps: list[tuple[int, int]]) -> None:
    """As when the JWTs of one tenant have two plans, and share an account."""
    mixed, alone, low, high, now_us = Account(), Account(), Limits(20), Limits(600), NOW_US
    for pause_us, polls in steps:
        now_us += pause_us
        for _ in range(polls):  # refused or not: what it takes is used in both
            now_us += 10_000
            if take(mixed, low, now_us, units(1)) is None:
                take(alone, high, now_us, units(1))
        assert (take(mixed, high, now_us, units(5)) is None) >= (take(alone, high, now_us, units(5)) is None)


def test_what_a_lowered_limit_leaves_out_is_used_when_it_is_raised_again() -> None:
    account, low, high = Account(), Limits(20), Limits(600)
    assert take(account, high, NOW_US, units(300)) is None
    now_us = NOW_US + 10_000_000
    assert take(account, low, NOW_US, units(1)) is not None
    assert take(account, low, now_us, units(1)) is None
    take_over(account, high)
    assert left(account, 600) == (201, 399)  # 300, less what ten seconds give back, and one
    give_back(account, low, now_us, units(-10))
    take_over(account, high)
    assert left(account, 600) == (211, 389)
    give_back(account, low, now_us, units(10))
    take_over(account, high)
    assert left(account, 600) == (201, 399)


@given(
    st.lists(st.tuples(st.integers(0, 30_000_000), st.integers(1, 50)), max_size=40), st.integers(1, 60_000), st.data()
)
def test_a_limit_that_is_raised_once_is_exact(steps: list[tuple[int, int]], rate: int, data: st.DataObject) -> None:
    """Whatever was used before counts under the new limit, and no unit of it more than once."""
    raised, at = rate * data.draw(st.integers(1, 100)), data.draw(st.integers(0, len(steps)))
    account, now_us, taken = Account(), NOW_US, list[tuple[int, int]]()
    for n, (pause_us, count) in enumerate(steps):
        now_us += pause_us
        if take(account, Limits(rate if n < at else raised), now_us, units(count)) is None:
            taken.append((now_us, count))
    for i, (begin_us, _) in enumerate(taken):
        total = 0
        for at_us, count in taken[i:]:
            total += count
            assert total * MINUTE_US <= raised * (MINUTE_US + at_us - begin_us)
